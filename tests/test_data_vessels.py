"""The reader of the retinas: both layouts of the archive, what may be missing, what must not be."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tinynet import metrics
from tinynet.data import DataError, data_path, read_vessels, split_children, synthetic_retina
from tinynet.data.vessels import CHASE, field_of_view

EYES = ("01L", "01R", "11L")


def png(array, kind="PNG"):
    content = io.BytesIO()
    Image.fromarray(array).save(content, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return content.getvalue()


def write_archive(path, layout="folders", changes=()):
    """The drawings of `synthetic_retina`. layout: "folders" as in some copies, "flat" as in the official archive."""
    members = {}
    for number, eye in enumerate(EYES):
        r = synthetic_retina(np.random.default_rng(number), 64)
        files = {f"images/Image_{eye}.jpg": png(r.image, "JPEG"), f"1st_label/Image_{eye}_1stHO.png": png(r.vessels)}
        files[f"2nd_label/Image_{eye}_2ndHO.png"] = png(r.second)
        if layout == "folders":
            files[f"mask/Image_{eye}.png"] = png(np.uint8(255 * r.field))
        members |= {("CHASEDB1/" + n if layout == "folders" else n.split("/")[1]): b for n, b in files.items()}
    members.update(changes)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


@pytest.mark.parametrize("layout", ["folders", "flat"])
def test_both_layouts(tmp_path, layout):
    retinas = read_vessels(write_archive(tmp_path / "c.zip", layout))
    assert [r.id for r in retinas] == list(EYES) and [r.child for r in retinas] == ["01", "01", "11"]
    for number, r in enumerate(retinas):
        drawn = synthetic_retina(np.random.default_rng(number), 64)
        assert np.abs(r.image.astype(int) - drawn.image).mean() < 8 and r.image.dtype == np.uint8
        np.testing.assert_array_equal(r.vessels, drawn.vessels)
        np.testing.assert_array_equal(r.second, drawn.second)
        assert metrics.iou(r.field, drawn.field) > (0.999 if layout == "folders" else 0.9)  # there it is computed
    training, held_out = split_children(retinas)
    assert [r.id for r in training] == ["01L", "01R"] and [r.id for r in held_out] == ["11L"]
    assert len(read_vessels(tmp_path / "c.zip", limit=1)) == 1


def test_what_may_be_missing_or_gray(tmp_path):
    gray = np.full((64, 64), 100, np.uint8)
    gray[:, 32:] = 180
    changes = {
        "CHASEDB1/2nd_label/Image_01L_2ndHO.png": None,
        "CHASEDB1/1st_label/Image_01L_1stHO.png": png(gray),
        "CHASEDB1/1st_label/Image_01R_1stHO.png": png(np.zeros((64, 64), np.uint8)),
    }
    first, without_vessels, _ = read_vessels(write_archive(tmp_path / "c.zip", changes=changes))
    assert first.second is None
    np.testing.assert_array_equal(first.vessels, gray == 180)
    assert not without_vessels.vessels.any()
    assert not field_of_view(np.zeros((8, 8, 3), np.uint8)).any()


def test_a_mask_of_zeros_and_ones(tmp_path):
    drawn = synthetic_retina(np.random.default_rng(0), 64)
    changes = {"CHASEDB1/1st_label/Image_01L_1stHO.png": png(drawn.vessels.astype(np.uint8))}
    np.testing.assert_array_equal(
        read_vessels(write_archive(tmp_path / "c.zip", changes=changes))[0].vessels, drawn.vessels
    )


BLACK = np.zeros((64, 64), np.uint8)
BROKEN = {
    "missing tracing": ("1st_label/Image_01L_1stHO.png", None, r"Image_01L\.jpg: the tracing of the first observer"),
    "other size": ("1st_label/Image_01L_1stHO.png", png(np.zeros((64, 60), bool)), r"1stHO\.png: 64 x 60 pixels; .*64"),
    "mask of another size": ("mask/Image_01L.png", png(np.zeros((6, 64), np.uint8)), r"mask/Image_01L\.png: 6 x 64"),
    "empty mask": ("mask/Image_01L.png", png(BLACK), r"mask/Image_01L\.png: the field of view is empty"),
    "two photographs": ("more/Image_1l.png", png(BLACK), r"more/Image_1l\.png: .*/Image_01L\.jpg is the same part"),
    "damaged": ("images/Image_01L.jpg", b"\xff\xd8\xff\xe0 no more", r"Image_01L\.jpg: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_archives_are_named(tmp_path, name):
    member, content, message = BROKEN[name]
    with pytest.raises(DataError, match=message):
        read_vessels(write_archive(tmp_path / "c.zip", changes={f"CHASEDB1/{member}": content}))


def test_a_dark_photograph_without_a_mask(tmp_path):
    write_archive(tmp_path / "c.zip", "flat", {"Image_01L.jpg": png(BLACK, "JPEG")})
    with pytest.raises(DataError, match=r"Image_01L\.jpg: the field of view is empty; .* brighter than 20"):
        read_vessels(tmp_path / "c.zip")


def test_a_damaged_member_and_half_an_archive(tmp_path):
    content = bytearray(write_archive(tmp_path / "c.zip").read_bytes())
    content[200] ^= 255  # inside the first photograph
    (tmp_path / "c.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"Image_01L\.jpg: damaged inside the archive"):
        read_vessels(tmp_path / "c.zip")
    (tmp_path / "c.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"c\.zip: not a zip archive, or a truncated one"):
        read_vessels(tmp_path / "c.zip")


def test_where_it_is_looked_for(tmp_path, monkeypatch):
    path = write_archive(tmp_path / "CHASEDB1.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "extracted")
    for given in (path, tmp_path, tmp_path / "extracted", tmp_path / "extracted" / "CHASEDB1"):
        assert [r.id for r in read_vessels(given)] == list(EYES)
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    with pytest.raises(DataError, match=r"CHASEDB1\.zip was not found .*; get it from https://blogs\.kingston"):
        read_vessels()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no photographs; .* get chase_db1/CHASEDB1\.zip from https://"):
        read_vessels(tmp_path / "empty")


def test_an_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("cat.png", png(np.zeros((4, 4), np.uint8)))
    with pytest.raises(DataError, match=r"c.zip: no photographs; need files such as Image_01L\.jpg"):
        read_vessels(tmp_path / "c.zip")


@pytest.mark.slow
def test_the_real_photographs():
    if data_path(CHASE) is None:
        pytest.skip(f"{CHASE} is neither in TINYNET_DATA nor in the cache")
    retinas = read_vessels()
    assert [len(part) for part in split_children(retinas)] == [20, 8]
    assert all(r.image.shape == (960, 999, 3) for r in retinas)
    dices = [metrics.dice(r.vessels & r.field, r.second & r.field) for r in retinas]
    assert np.round([np.mean(dices), min(dices), max(dices)], 2).tolist() == [0.78, 0.74, 0.83]
    assert max(np.mean(field_of_view(r.image) != r.field) for r in retinas) < 0.01
