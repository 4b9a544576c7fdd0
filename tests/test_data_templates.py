"""The MNI templates of nilearn: what is read, damaged files, and the synthetic head."""

import numpy as np
import pytest

from tinynet.data import DataError, mni_template, synthetic_template
from tinynet.data.templates import TEMPLATE_SHAPE, read_template

nibabel = pytest.importorskip("nibabel")


def save(path, voxels, affine=None):
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def test_the_templates_of_nilearn():
    pytest.importorskip("nilearn")
    t1, gray = mni_template("t1"), mni_template("gm")
    assert t1.shape == gray.shape == TEMPLATE_SHAPE and t1.dtype == gray.dtype == np.float32
    in_gray, in_brain = t1[gray > 200].mean(), t1[t1 > 0].mean()
    assert 0.6 * in_brain < in_gray < in_brain  # the contrasts fit; gray matter is darker than white
    with pytest.raises(ValueError, match="contrast is 't2'; it must be one of t1, gm, wm"):
        mni_template("t2")


def test_without_nilearn(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"part of nilearn: `pip install -e \".\[examples\]\""):
        mni_template()


def test_wrong_files_are_named(tmp_path):
    right = np.zeros(TEMPLATE_SHAPE[::-1], np.uint8)
    right[0] = 255
    np.testing.assert_array_equal(read_template(save(tmp_path / "right.nii.gz", right)), right.T)
    wrong = {
        r"shape \(4, 4, 4\)": save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.uint8)),
        r".*voxels of \(2\.0, 2\.0, 2\.0\) mm": save(tmp_path / "b.nii.gz", right, np.diag([2, 2, 2, 1])),
        "values from 0 to 510; 0 to 255 are needed": save(tmp_path / "c.nii.gz", 2 * right.astype(np.int16)),
        "": tmp_path / "none.nii",
    }
    for message, path in wrong.items():
        with pytest.raises(DataError, match=rf"{path.name}: {message}"):
            read_template(path)
    truncated = save(tmp_path / "d.nii.gz", right)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"d\.nii\.gz"):
        read_template(truncated)


def test_the_synthetic_head():
    head = synthetic_template(np.random.default_rng(0))
    assert list(head) == ["t1", "gm"]
    assert all(voxels.shape == TEMPLATE_SHAPE and voxels.dtype == np.float32 for voxels in head.values())
    assert set(np.unique(head["t1"])) == {0, 60, 150, 220}
    np.testing.assert_array_equal(head["t1"] == 150, head["gm"] == 255)
    assert 0.1 < np.mean(head["gm"][head["t1"] > 0] == 255) < 0.6
