"""Finding data, and checking downloads. No test uses the network."""

import subprocess
import sys

import pytest
from nuclei_files import kaggle_files, squares, write_zip

from tinynet.data import download as module
from tinynet.data.download import data_path, fetch
from tinynet.errors import DataError

NAME = "dsb2018/stage1_train.zip"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYNET_DATA", raising=False)


def put(folder):
    path = folder / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"data")
    return path


def test_order_of_places(tmp_path, monkeypatch):
    assert data_path(NAME) is None
    cached = put(tmp_path / "cache" / "data")
    assert data_path(NAME) == cached
    named = put(tmp_path / "env")
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "env"))
    assert data_path(NAME) == named
    assert data_path("mnist/x.gz") is None
    given = put(tmp_path / "given")
    assert data_path(NAME, tmp_path / "given") == given  # a data folder ...
    assert data_path(NAME, given) == given  # ... or the data itself


def test_places_that_do_not_exist(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"--data .*absent: no such file"):
        data_path(NAME, tmp_path / "absent")
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"TINYNET_DATA=.*absent: no such folder"):
        data_path(NAME)


def serve(monkeypatch, files):
    """Let pooch 'download' a zip archive of these files."""
    import pooch

    def retrieve(url, known_hash, fname, path, progressbar):
        assert url == module.BBBC038 + "stage1_train.zip"
        path.mkdir(parents=True, exist_ok=True)
        target = path / fname
        if not target.exists():
            write_zip(target, files)
        if known_hash is not None and pooch.file_hash(str(target)) != known_hash:
            raise ValueError("hash does not match")
        return str(target)

    monkeypatch.setattr(pooch, "retrieve", retrieve)


def test_first_download_is_checked_and_its_hash_kept(monkeypatch):
    monkeypatch.setitem(module.IMAGES, NAME, 1)
    serve(monkeypatch, kaggle_files("a", squares()))
    path = fetch(NAME)
    assert path == data_path(NAME) and len((path.parent / (path.name + ".sha256")).read_text().strip()) == 64
    assert fetch(NAME) == path
    path.write_bytes(b"changed")
    with pytest.raises(DataError, match=r"hash does not match.*--data"):
        fetch(NAME)


@pytest.mark.parametrize("what", ["too few images", "not a zip"])
def test_a_download_of_something_else_is_not_kept(monkeypatch, tmp_path, what):
    serve(monkeypatch, kaggle_files("a", squares()))
    if what == "not a zip":
        put(tmp_path / "cache" / "data")
    with pytest.raises(DataError, match=r"it holds 1 images; need 670|not a zip archive"):
        fetch(NAME)
    assert data_path(NAME) is None


def test_no_network_is_a_sentence(monkeypatch):
    import pooch

    def retrieve(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match=r"download failed .no route.; fetch it by hand"):
        fetch(NAME)
    with pytest.raises(DataError, match="unknown file 'x'"):
        fetch("x")


def test_importing_data_is_light():
    heavy = "{'scipy', 'skimage', 'numba', 'matplotlib', 'pooch', 'PIL', 'tqdm'}"
    code = f"import sys, tinynet.data; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import tinynet.data

    for name in tinynet.data.__all__:
        assert getattr(tinynet.data, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tinynet.data.nonsense
