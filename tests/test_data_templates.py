"""The MNI templates of nilearn: what is read, damaged files, and the synthetic head."""

import numpy as np
import pytest

from tinynet.data import DataError, mni_template, synthetic_template
from tinynet.data.templates import SHAPE, read_template

nibabel = pytest.importorskip("nibabel")


def save(path, voxels, affine=None):
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def test_the_templates_of_nilearn():
    pytest.importorskip("nilearn")
    t1, gray = mni_template("t1"), mni_template("gm")
    assert t1.shape == gray.shape == SHAPE and t1.dtype == gray.dtype == np.uint8
    in_gray, in_brain = t1[gray > 200].mean(), t1[t1 > 0].mean()
    assert 0.6 * in_brain < in_gray < in_brain  # the contrasts fit; gray matter is darker than white
    with pytest.raises(ValueError, match="contrast is 't2'; it must be one of t1, gm, wm"):
        mni_template("t2")


def test_without_nilearn(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"part of nilearn: `pip install -e \".\[examples\]\""):
        mni_template()


def test_wrong_files_are_named(tmp_path):
    right = np.zeros(SHAPE, np.uint8)
    wrong = {
        r"shape \(4, 4, 4\)": save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.uint8)),
        r".*axes to \('L', 'A', 'S'\)": save(tmp_path / "b.nii.gz", right, np.diag([-1, 1, 1, 1])),
        "voxels of dtype int16": save(tmp_path / "c.nii.gz", right.astype(np.int16)),
        "not a readable NIfTI file": save(tmp_path / "d.nii.gz", right),
    }
    truncated = tmp_path / "d.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:2000])
    (tmp_path / "e.nii.gz").write_bytes(b"no image")
    for message, path in (*wrong.items(), ("not a readable", tmp_path / "e.nii.gz"), ("not a", tmp_path / "none.nii")):
        with pytest.raises(DataError, match=rf"{path.name}: {message}"):
            read_template(path)


def test_the_synthetic_head():
    head = synthetic_template(np.random.default_rng(0))
    assert list(head) == ["t1", "gm"]
    assert all(voxels.shape == SHAPE and voxels.dtype == np.uint8 for voxels in head.values())
    assert set(np.unique(head["t1"])) == {0, 60, 150, 220}
    np.testing.assert_array_equal(head["t1"] == 150, head["gm"] == 255)
    assert 0.1 < np.mean(head["gm"][head["t1"] > 0] == 255) < 0.6
