"""The reader of blood smears: boxes, parts, and what happens with boxes and files that are wrong."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tinynet.data import DataError, data_path, read_blood_cells, synthetic_smear
from tinynet.data.blood_cells import BCCD, parse_voc


def voc(*cells, width=40, height=20):
    """An annotation; a cell is (name, xmin, ymin, xmax, ymax)."""
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    objects = "".join(f"<object><name>{name}</name>{box.format(*numbers)}</object>" for name, *numbers in cells)
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>".encode()


def write_archive(path, changes=()):
    content = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 150, 100)).save(content, "PNG")  # a PNG, so that its pixels are exact
    members = {"ImageSets/Main/train.txt": b"B_1\nB_2\n", "ImageSets/Main/val.txt": b"B_3\n"}
    for number in (1, 2, 3):
        members[f"JPEGImages/B_{number}.png"] = content.getvalue()
        members[f"Annotations/B_{number}.xml"] = voc(("RBC", 1, 1, 10, 8), ("Platelets", 21, 11, 24, 14))
    members["preview/B_1.png"] = b"no photograph of the set"  # copies of the set hold other images, too
    members.update(changes)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(f"BCCD/{name}", data)
    return path


def test_boxes_are_edges_in_pixels_of_the_reduced_image(tmp_path):
    path = write_archive(tmp_path / "b.zip")
    first, second = read_blood_cells("train", path, reduce=1)
    assert (first.id, second.id) == ("B_1", "B_2") and first.image.shape == (20, 40, 3)
    assert first.boxes.tolist() == [[0, 0, 8, 10], [10, 20, 14, 24]]  # the first pixel of the format is number 1
    assert first.classes.tolist() == [0, 2]
    (half,) = read_blood_cells("val", path)
    assert half.image.shape == (10, 20, 3) and half.boxes.tolist() == [[0, 0, 4, 5], [5, 10, 7, 12]]
    assert len(read_blood_cells("train", path, limit=1)) == 1
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder")
    assert len(read_blood_cells("train", tmp_path / "folder")) == 2


def test_boxes_outside_without_an_area_and_no_boxes_at_all(tmp_path):
    cells = (
        ("WBC", 31, 11, 60, 40),
        ("RBC", 50, 5, 60, 9),
        ("RBC", 7, 7, 7, 7),
        ("RBC", 9, 9, 5, 12),
        ("RBC", -5, -3, 6, 4),
    )
    changes = {"Annotations/B_1.xml": voc(*cells), "Annotations/B_2.xml": voc()}
    with pytest.warns(UserWarning, match=r"b\.zip: 3 boxes without an area in their image left out, the first in B_1"):
        first, empty = read_blood_cells("train", write_archive(tmp_path / "b.zip", changes), reduce=1)
    assert first.boxes.tolist() == [[10, 30, 20, 40], [0, 0, 4, 6]] and first.classes.tolist() == [1, 0]  # clipped
    assert empty.boxes.shape == (0, 4) and empty.boxes.dtype == np.float32 and empty.classes.shape == (0,)


BOMB = '<?xml version="1.0" encoding="{0}"?><!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>'
BROKEN = {
    "unknown class": ({"Annotations/B_1.xml": voc(("CAT", 1, 1, 3, 3))}, r"B_1\.xml: the class 'CAT' is unknown; RBC"),
    "no XML": ({"Annotations/B_1.xml": b"<annotation><size>"}, r"B_1\.xml: not an annotation of Pascal VOC"),
    **{
        f"entities, {code}": ({"Annotations/B_1.xml": BOMB.format(code).encode(code)}, r"B_1\.xml: .*a document type")
        for code in ("utf-8", "utf-16")  # a search for the bytes of "DOCTYPE" would miss the second one
    },
    "encoding": ({"Annotations/B_1.xml": BOMB.format("no").encode()}, r"B_1\.xml: .*unknown encoding: no"),
    "other size": ({"Annotations/B_1.xml": voc(width=30)}, r"B_1\.xml: .* of 20 x 30 pixels; the image has 20 x 40"),
    "no number": ({"Annotations/B_1.xml": voc(("RBC", "x", 1, 2, 2))}, r"B_1\.xml: not an annotation .*'x'"),
    "NaN": ({"Annotations/B_1.xml": voc(("RBC", "nan", 1, 2, 2))}, r"B_1\.xml: not an annotation .*the box"),
    "no element": ({"Annotations/B_1.xml": b"<annotation/>"}, r"B_1\.xml: not an annotation .*no element size/height"),
    "no annotation": ({"Annotations/B_1.xml": None}, r"b\.zip: no file Annotations/B_1\.xml"),
    "no photograph": ({"JPEGImages/B_1.png": None}, r"the part train names B_1, but there is no photograph B_1"),
    "damaged photograph": ({"JPEGImages/B_1.png": b"\x89PNG no more"}, r"B_1\.png: "),
    "no part": ({"ImageSets/Main/train.txt": None}, r"b\.zip: no file ImageSets/Main/train\.txt"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path, name):
    changes, message = BROKEN[name]
    with pytest.raises(DataError, match=message):
        read_blood_cells("train", write_archive(tmp_path / "b.zip", changes))


def test_wrong_arguments_and_other_files(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="part is 'all'; it must be one of train, val, test"):
        read_blood_cells("all", tmp_path)
    with pytest.raises(ValueError, match="reduce is 0; at least 1 is needed"):
        read_blood_cells("train", tmp_path, reduce=0)
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    with pytest.raises(
        DataError, match=r"bccd/BCCD\.zip was not found in TINYNET_DATA or in the cache; get it from http"
    ):
        read_blood_cells("train")
    (tmp_path / "b.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"b\.zip: not a zip archive"):
        read_blood_cells("train", tmp_path / "b.zip")


def test_drawings():
    smears = [synthetic_smear(np.random.default_rng(i), (48, 64)) for i in range(20)]
    assert {int(kind) for smear in smears for kind in smear.classes} == {0, 1, 2}
    for smear in smears:
        assert smear.image.shape == (48, 64, 3) and (smear.boxes[:, 2:] > smear.boxes[:, :2]).all()
        assert smear.boxes.min() >= 0 and (smear.boxes[:, 2:] <= (48, 64)).all()


@pytest.mark.slow
def test_the_real_smears():
    if data_path(BCCD) is None:
        pytest.skip(f"{BCCD} is neither in TINYNET_DATA nor in the cache")
    with pytest.warns(UserWarning, match="1 boxes without an area"):
        parts = [read_blood_cells(part) for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [205, 87, 72]
    counts = sum(np.bincount(smear.classes, minlength=3) for part in parts for smear in part)
    assert counts.tolist() == [4153, 372, 361]


def test_annotations_read_without_an_image():
    boxes, classes = parse_voc(voc(("WBC", 1, 1, 40, 20)), (20, 40), "a.xml")
    assert boxes.tolist() == [[0, 0, 20, 40]] and classes.tolist() == [1]
