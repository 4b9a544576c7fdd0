"""The reader of the knee X-rays: images, grades, patients, and the messages for broken archives."""

import zipfile

import numpy as np
import pytest
from test_data_chest_xray import jpeg

from tinynet.data import DataError, data_path, knees_or_synthetic, read_knees, synthetic_knees
from tinynet.data.knees import GRADES, KNEES


def write_archive(path, grades="01234"):
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("train", "val", "test"):
            for grade in grades:
                for number, side in ((9000000, "L"), (9000000, "R"), (9000001, "L")):
                    archive.writestr(f"kneeKL112/{part}/{grade}/{number}{side}.jpg", jpeg(40 * int(grade) + 20))
    return path


def test_grades_and_patients(tmp_path):
    path = write_archive(tmp_path / "knees.zip")
    knees, patients = read_knees("val", path, size=8)
    assert knees.images.shape == (15, 8, 8, 1) and knees.classes == GRADES
    np.testing.assert_allclose(knees.images[:, 4, 4, 0], 40 * knees.labels + 20, atol=2)
    assert patients[:3].tolist() == ["9000000", "9000000", "9000001"]
    assert read_knees("train", path, size=8, limit=2)[0].labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no images in train/4; need a folder for each class in train/"):
        read_knees("train", write_archive(tmp_path / "knees.zip", "0123"))
    with pytest.raises(ValueError, match="part is 'all'; it must be one of train, val, test"):
        read_knees("all", tmp_path / "knees.zip")
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    with pytest.raises(DataError, match=r"knee_oa_112.zip was not found in TINYNET_DATA.* https://data.mendeley"):
        read_knees("train")


def test_drawings_have_narrower_gaps_in_higher_grades():
    knees, patients = synthetic_knees(100, np.random.default_rng(0), size=64)
    assert knees.images.shape == (100, 64, 64, 1) and np.bincount(knees.labels).tolist() == [20] * 5
    assert len(set(patients)) == 50
    dark = (knees.images[:, 20:44, 16:48] < 70).mean((1, 2, 3))  # the gap
    means = [dark[knees.labels == grade].mean() for grade in range(5)]
    assert means == sorted(means, reverse=True)


def test_drawings_replace_missing_knees(tmp_path, monkeypatch):
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    parts, source = knees_or_synthetic(None, 0, (6, 5, 4), size=16)
    assert [len(knees) for knees, _ in parts.values()] == [6, 5, 4] and "knee_oa_112.zip was not found" in source
    assert (parts["train"][0].images[:4] != parts["test"][0].images).any()
    with pytest.raises(DataError, match="no images in train/0"):
        knees_or_synthetic(tmp_path, 0, synthetic=True)
    path = write_archive(tmp_path / "knees.zip")
    parts, source = knees_or_synthetic(path, 0, size=8, synthetic=True)
    assert parts["val"][0].images.shape == (15, 8, 8, 1) and source == "knee X-rays (15 + 15 + 15)"
    assert "asked for" in knees_or_synthetic(None, 0, (1, 1, 1), size=8, synthetic=True)[1]


@pytest.mark.slow
def test_the_real_knees():
    if data_path(KNEES) is None:
        pytest.skip(f"{KNEES} is neither in TINYNET_DATA nor in the cache")
    counts = {"train": [2286, 1046, 1516, 757, 173], "val": [328, 153, 212, 106, 27], "test": [481, 231, 320, 162, 40]}
    patients = {}
    for part, expected in counts.items():
        knees, patients[part] = read_knees(part)
        assert knees.images.shape[1:] == (112, 112, 1) and np.bincount(knees.labels).tolist() == expected
    assert not set(patients["train"]) & set(patients["test"]) and not set(patients["train"]) & set(patients["val"])
