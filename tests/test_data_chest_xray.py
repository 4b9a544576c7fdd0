"""The reader of the chest X-rays: images, patients, and the messages for broken archives."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from tinynet.data import DataError, chest_xrays_or_synthetic, data_path, read_chest_xrays, synthetic_chest_xrays
from tinynet.data.chest_xray import CHEST

# In the order of their names: "2" comes before "_".
NAMES = {
    "NORMAL/IM-0117-0001.jpeg": 10,
    "NORMAL/IM-0117-0002.jpeg": 20,
    "NORMAL/NORMAL2-IM-0117-0001-0002.jpeg": 30,
    "NORMAL/elsewhere.jpeg": 40,
    "PNEUMONIA/person12_bacteria_46.jpeg": 200,
    "PNEUMONIA/person1_bacteria_1.jpeg": 210,
    "PNEUMONIA/person1_virus_2.jpeg": 220,
}


def jpeg(gray: int, mode: str = "L") -> bytes:
    content = io.BytesIO()
    Image.new("L", (60, 40), gray).convert(mode).save(content, "JPEG")
    return content.getvalue()


def write_archive(path, parts=("train", "test"), changes=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {f"chest_xray/{part}/{name}": jpeg(gray) for part in parts for name, gray in NAMES.items()}
    members["chest_xray/train/PNEUMONIA/.DS_Store"] = b"no image"
    members["__MACOSX/train/NORMAL/._x.jpeg"] = b"no image"
    members.update(changes)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_from_a_data_folder_an_archive_and_a_folder(tmp_path):
    color = {"chest_xray/train/NORMAL/IM-0117-0002.jpeg": jpeg(20, "RGB")}  # as some of the real images
    archive = write_archive(tmp_path / CHEST, changes=color)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "unpacked")
    for given in (tmp_path, archive, tmp_path / "unpacked"):
        xrays, patients = read_chest_xrays("train", given, size=16)
        assert xrays.images.shape == (7, 16, 16, 1) and xrays.images.dtype == np.uint8
        np.testing.assert_allclose(xrays.images[:, 8, 8, 0], list(NAMES.values()), atol=2)
        assert xrays.labels.tolist() == [0] * 4 + [1] * 3 and xrays.labels.dtype == np.int64
        assert xrays.classes == ("normal", "pneumonia")
        assert patients.tolist() == ["IM-0117"] * 2 + ["NORMAL2-IM-0117", "elsewhere", "person12", "person1", "person1"]
    with pytest.raises(ValueError, match="part is 'val'; it must be 'train' or 'test'"):
        read_chest_xrays("val", tmp_path)


def test_broken_archives_are_named(tmp_path, monkeypatch):
    damaged = {"chest_xray/test/NORMAL/IM-0117-0001.jpeg": jpeg(10)[:200]}
    path = write_archive(tmp_path / "x.zip", changes=damaged)
    with pytest.raises(DataError, match=r"test/NORMAL/IM-0117-0001\.jpeg: not a readable image"):
        read_chest_xrays("test", path)
    with pytest.raises(DataError, match="no images in test/NORMAL; need a folder for each class in test/"):
        read_chest_xrays("test", write_archive(tmp_path / "x.zip", parts=("train",)))
    (tmp_path / "y.zip").write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not a zip archive"):
        read_chest_xrays("train", tmp_path / "y.zip")
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    with pytest.raises(DataError, match=r"chest_xray.zip was not found in TINYNET_DATA.* https://data.mendeley"):
        read_chest_xrays("train")


def test_drawings_are_told_apart_by_their_patches():
    xrays, patients = synthetic_chest_xrays(40, np.random.default_rng(0), size=64)
    assert xrays.images.shape == (40, 64, 64, 1) and xrays.images.dtype == np.uint8
    assert np.bincount(xrays.labels).tolist() == [20, 20] and len(set(patients)) == 40
    ill, healthy = (xrays.images[xrays.labels == label].mean(axis=0) for label in (1, 0))
    lungs = healthy[16:48, 12:24].mean()
    assert lungs < healthy[28:36, 30:34].mean() - 40 and ill[16:48, 12:24].mean() > lungs + 5


def test_drawings_replace_missing_xrays(tmp_path, monkeypatch):
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    parts, source = chest_xrays_or_synthetic(None, 0, (6, 5), size=16)
    assert [len(xrays) for xrays, _ in parts.values()] == [6, 5] and list(parts) == ["train", "test"]
    assert source.startswith("drawings in place of chest X-rays (6 + 5), because chest_xray/chest_xray.zip was not")
    assert (parts["train"][0].images[:5] != parts["test"][0].images).any()
    with pytest.raises(DataError, match="no images in train/NORMAL"):
        chest_xrays_or_synthetic(tmp_path, 0, synthetic=True)
    write_archive(tmp_path / CHEST)
    parts, source = chest_xrays_or_synthetic(tmp_path, 0, size=8, synthetic=True)
    assert parts["test"][0].images.shape == (7, 8, 8, 1) and source == "chest X-rays (7 + 7)"
    assert "asked for" in chest_xrays_or_synthetic(None, 0, (1, 1), size=8, synthetic=True)[1]


def test_the_real_xrays():
    if not os.environ.get("TINYNET_DATA") or data_path(CHEST) is None:
        pytest.skip("TINYNET_DATA does not name a folder with the chest X-rays")
    test, patients = read_chest_xrays("test", size=8)
    assert np.bincount(test.labels).tolist() == [234, 390] and len(np.unique(patients)) == 427
