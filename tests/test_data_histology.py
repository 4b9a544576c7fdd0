"""The reader of stained slices with landmarks: scales, missing landmarks, and the messages for broken sets."""

import io
import os

import numpy as np
import pytest
from PIL import Image

import tinynet as tn
from tinynet.data import (
    DataError,
    common_landmarks,
    data_path,
    read_stained_slices,
    stain_pair,
    synthetic_stained_slices,
)
from tinynet.data.histology import LUNG, read_landmarks

NAMES = {"29-041-Izd2-w35-CD31-3-les3": "CD31", "29-041-Izd2-w35-He-les3": "He", "other": "other"}
TABLE = " ,X,Y\n1,100,50\n2,200,150\n3,300,50\n7,0,0\n"


def jpeg(gray=200):
    content = io.BytesIO()
    Image.new("RGB", (60, 40), (gray, gray, 30)).save(content, "JPEG")
    return content.getvalue()


def write_set(folder, changes=()):
    """A set of three slices of 40 x 60 pixels; `changes`: contents by path, None to leave a file out."""
    files = {f"{name}.jpg": jpeg() for name in NAMES}
    files |= {f"user-PS_scale-50pc/{name}.csv": TABLE for name in NAMES}
    files.update(changes)
    for name, content in files.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_landmarks_are_in_pixels_of_the_images(tmp_path):
    write_set(tmp_path / LUNG)
    for given in (tmp_path, tmp_path / LUNG):
        slices = read_stained_slices(given)
        assert [s.name for s in slices] == list(NAMES) and [s.stain for s in slices] == list(NAMES.values())
        assert all(s.image.shape == (40, 60, 3) and s.image.dtype == np.uint8 for s in slices)
        assert slices[0].landmarks.tolist() == [[5, 10], [15, 20], [5, 30], [0, 0]]
        assert slices[0].numbers.tolist() == [1, 2, 3, 7] and slices[0].numbers.dtype == np.int64
    (tmp_path / LUNG / "user-PS_scale-50pc").rename(tmp_path / LUNG / "user-PS_scale-25pc")
    assert read_stained_slices(tmp_path)[0].landmarks[1].tolist() == [30, 40]


def test_a_missing_landmark_is_missing_in_its_slice_only(tmp_path):
    table = "\ufeffn, Y ,x\r\n9,10,20\r\n3,50,300\r\n\r\n2,150,200\r\n7,,5\r\n1,nan,3\r\n10,30,40\r\n"  # another order
    second = list(NAMES)[1]
    slices = read_stained_slices(write_set(tmp_path, {f"user-PS_scale-50pc/{second}.csv": table}))
    assert slices[1].numbers.tolist() == [2, 3, 9, 10] and len(slices[0].numbers) == 4
    with pytest.raises(DataError, match=r"CD31-3-les3 and .*He-les3 have 2 landmarks in common; three or more"):
        common_landmarks(slices[0], slices[1])
    a, b = common_landmarks(slices[0], slices[2])
    assert a.shape == b.shape == (4, 2)


def test_a_slice_without_a_table_is_left_out(tmp_path):
    assert len(read_stained_slices(write_set(tmp_path, {"user-PS_scale-50pc/other.csv": None}))) == 2
    with pytest.raises(DataError, match=r"0 folders user-XY_scale-\*pc with landmarks.*there: user-PS_scale-50pc"):
        read_stained_slices(tmp_path, annotator="XY")


BAD_TABLES = {
    "": "line 1 is ''",
    "1,2,3\n4,5,6\n": "line 1 is '1,2,3'; a column of numbers, then columns X and Y are needed",
    " ,X,X,Y\n1,2,3,4\n": "line 1 is ',X,X,Y'",
    " ,X,Y\n": "no landmark has coordinates",
    " ,X,Y\n1,,\n": "no landmark has coordinates",
    " ,X,Y\n1,2,3\n2,5\n": "line 3: 2 cells; 3 are needed",
    " ,X,Y\n1,2,3\n1,5,6\n": "line 3: landmark 1 occurs twice",
    " ,X,Y\n1,2,three\n": "line 2: 'three' is not a number",
    " ,X,Y\n1,2,inf\n": "line 2: 'inf' is not finite or too large",
    " ,X,Y\n1.5,2,3\n": "line 2: the number of a landmark is '1.5'",
    " ,X,Y\n,2,3\n": "line 2: the number of a landmark is ''",
    ' ,X,Y\n1,"2,3\n': "not a readable table",
    b"\xff\xfe\x00": "not a readable table",
}


@pytest.mark.parametrize("table", BAD_TABLES, ids=range(len(BAD_TABLES)))
def test_a_broken_table_is_named(tmp_path, table):
    path = tmp_path / "slice.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DataError) as error:
        read_landmarks(path)
    assert str(error.value).startswith(str(path)) and BAD_TABLES[table] in str(error.value)


def test_a_file_that_is_no_table_is_not_read(tmp_path):
    (tmp_path / "slice.csv").write_bytes(b" ,X,Y\n" + b"1,2,3\n" * 200_000)
    with pytest.raises(DataError, match=r"more than 1,048,576 bytes"):
        read_landmarks(tmp_path / "slice.csv")
    with pytest.raises(DataError, match="not a readable table"):
        read_landmarks(tmp_path / "none.csv")


HE = "29-041-Izd2-w35-He-les3"
BAD_SETS = {
    "outside": ({f"user-PS_scale-50pc/{HE}.csv": TABLE + "8,612,50\n9,620,50\n"}, r"landmark 8 .* x 61.2 .*\(2 of 6"),
    "negative": ({f"user-PS_scale-50pc/{HE}.csv": TABLE + "8,-20,50\n"}, r"x -2\.0 .*has 40 x 60 \(1 of 5"),
    "damaged": ({f"{HE}.jpg": jpeg()[:200]}, r"He-les3\.jpg: not a readable image"),
    "no images": (dict.fromkeys(f"{name}.jpg" for name in NAMES), "0 images with landmarks of PS; two or more"),
    "two sizes": ({f"scale-10pc/{HE}.jpg": jpeg()}, f"two images have the name '{HE}'"),
    "two scales": ({f"user-PS_scale-25pc/{HE}.csv": TABLE}, "2 folders user-PS_scale"),
    "no scale": (
        {f"user-PS_scale-0pc/{HE}.csv": TABLE} | {f"user-PS_scale-50pc/{name}.csv": None for name in NAMES},
        "must be 1 to 100 percent",
    ),
}


@pytest.mark.parametrize("name", BAD_SETS)
def test_a_broken_set_is_named(tmp_path, name):
    changes, message = BAD_SETS[name]
    with pytest.raises(DataError, match=message):
        read_stained_slices(write_set(tmp_path, changes))


def test_a_set_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    with pytest.raises(DataError, match=r"lung-lesion_3 was not found in TINYNET_DATA .* https://github.com/Borda"):
        read_stained_slices()
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="which is no folder"):
        read_stained_slices(tmp_path / "file")


def test_synthetic_landmarks_mark_the_same_place():
    slices = synthetic_stained_slices(np.random.default_rng(0), size=96)
    gray = [s.image.mean(axis=2) for s in slices]
    places = [np.rint(s.landmarks).astype(int) for s in slices]
    seen = [g[p[:, 0], p[:, 1]] for g, p in zip(gray, places)]
    elsewhere = [g[p[:, 0], p[:, 1]] for g, p in zip(gray, [places[0]] * len(places))]
    for i in (1, 2, 3):
        assert np.corrcoef(seen[0], seen[i])[0, 1] > max(0.6, np.corrcoef(seen[0], elsewhere[i])[0, 1] + 0.1)
        assert len(common_landmarks(slices[0], slices[i])[0]) == 40
        assert np.abs(slices[0].landmarks - slices[i].landmarks).max() > 3


def test_a_pair_is_reduced_and_keeps_its_places():
    slices = synthetic_stained_slices(np.random.default_rng(1), size=99)
    pair = stain_pair(*slices[:2], factor=4)
    assert pair.fixed.shape == pair.moving.shape == (24, 24, 1) and pair.fixed.dtype == np.float32
    assert abs(pair.fixed.mean()) < 1e-5 and abs(pair.fixed.std() - 1) < 1e-4
    brightness = slices[0].image[8:12, 40:44].mean(), slices[0].image[:96, :96].mean()
    assert (pair.fixed[2, 10, 0] > 0) == (brightness[0] < brightness[1])
    places = pair.places(margin=3)
    assert places.shape == (18, 18, 2) and places[0, 0].tolist() == [13.5, 13.5]
    read = tn.registration.read_at(pair.fixed[None], tn.tensor(pair.reduced(places)[None].astype(np.float32)))
    np.testing.assert_allclose(read.numpy()[0], pair.fixed[3:-3, 3:-3], atol=1e-5)
    assert pair.errors(pair.best)[0] < 1e-9 < 1 < pair.errors(np.zeros((1, 3)))[0]


def test_patches_fit_as_their_labels_say():
    slices = synthetic_stained_slices(np.random.default_rng(2), size=256)
    slices[0].image[:, :, :] = slices[1].image  # the same image in both, at places that the landmarks map exactly
    slices[0].landmarks = slices[1].landmarks
    x, labels = stain_pair(*slices[:2], factor=4).patches(40, np.random.default_rng(0))
    assert x.shape == (40, 30, 30, 2) and x.dtype == labels.dtype == np.float32 and labels.tolist() == [1, 0] * 20
    likeness = np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in np.moveaxis(x, 3, 1)])
    assert likeness[labels == 1].min() > 0.999 and np.median(likeness[labels == 0]) < 0.6


def test_the_real_slices():
    if not os.environ.get("TINYNET_DATA") or data_path(LUNG) is None:
        pytest.skip("TINYNET_DATA does not name a folder with the stained slices")
    slices = read_stained_slices()
    assert [s.stain for s in slices] == ["CD31", "Cc10", "He", "Ki67", "proSPC"]
    assert [s.stain for s in read_stained_slices(annotator="JB")] == ["He", "proSPC"]
    a, b = common_landmarks(slices[0], slices[1])
    assert len(a) == 80 and abs(np.linalg.norm(a - b, axis=1).mean() - 86.1) < 0.1
