"""Reading NIfTI volumes and the hippocampus archive: orientation, spacing, damaged and malicious files."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tinynet import data
from tinynet.data import DataError, Volume, read_hippocampus, read_volume, split_volumes, stack_volumes, volumes

nibabel = pytest.importorskip("nibabel")

VOXELS = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6) % 100  # (z, y, x)
SPACING = (2.0, 0.7, 1.5)  # z, y, x
UPRIGHT = np.diag([1.5, 0.7, 2.0, 1.0])  # NIfTI counts x, y, z


def nifti(voxels=VOXELS, affine=UPRIGHT, **header) -> bytes:
    """A NIfTI file of an array (z, y, x), whose header may be damaged afterwards."""
    image = nibabel.Nifti1Image(np.asarray(voxels).T, affine)
    content = bytearray(image.to_bytes())
    for field, value in header.items():
        dtype, offset = image.header.structarr.dtype.fields[field][:2]
        content[offset : offset + dtype.itemsize] = np.array(value, dtype=dtype.base).tobytes()
    return bytes(content)


def test_a_volume_has_axes_zyx_and_its_spacing(tmp_path):
    for name, content in (("a.nii", nifti()), ("a.nii.gz", gzip.compress(nifti()))):
        (tmp_path / name).write_bytes(content)
        volume = read_volume(tmp_path / name)
        assert (volume.id, volume.labels, volume.image.dtype) == ("a", None, np.float32)
        np.testing.assert_array_equal(volume.image, VOXELS)
        np.testing.assert_allclose(volume.spacing, SPACING, rtol=1e-6)
    with pytest.raises(DataError, match=r"nothing.nii: damaged, cut short or not there"):
        read_volume(tmp_path / "nothing.nii")


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR", "IAL", "SRP"])
@pytest.mark.parametrize("tilt", [0.0, 0.2])
def test_every_orientation_gives_the_same_array(axes, tilt):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    upright = nibabel.Nifti1Image(VOXELS.T, turn @ UPRIGHT)
    wanted = nibabel.orientations.axcodes2ornt(axes)
    change = nibabel.orientations.ornt_transform(nibabel.io_orientation(upright.affine), wanted)
    turned = upright.as_reoriented(change)
    assert "".join(nibabel.aff2axcodes(turned.affine)) == axes
    volume = read_volume(turned.to_bytes(), nifti(VOXELS % 3, turn @ UPRIGHT))  # labels may have other axes
    np.testing.assert_array_equal(volume.image, VOXELS)
    np.testing.assert_array_equal(volume.labels, VOXELS % 3)
    np.testing.assert_allclose(volume.spacing, SPACING, rtol=1e-6)


BAD = {
    "no affine": (nifti(qform_code=0, sform_code=0), "no affine matrix .* orientation is unknown"),
    "zero affine": (nifti(srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4, sform_code=1), "not finite or not invert"),
    "NaN affine": (nifti(srow_x=[np.nan] * 4, sform_code=1), "not finite or not invertible"),
    "flat affine": (nifti(srow_z=[1.5, 0, 0, 0], sform_code=1), "not finite or not invertible"),
    "cut short": (nifti()[:700], r"700 bytes; .*shape \(6, 5, 4\) of float32 needs 832: the file is cut short"),
    "cut in the header": (nifti()[:100], "not a readable NIfTI"),
    "empty": (b"", "not a readable NIfTI"),
    "not NIfTI": (b"GIF89a" * 200, "not a readable NIfTI"),
    "gzip cut short": (gzip.compress(nifti())[:-20], "damaged, cut short"),
    "gzip damaged": (gzip.compress(nifti())[:-8] + bytes(8), "damaged, cut short"),
    "dimensions": (nifti(dim=[3, 32000, 32000, 32000, 1, 1, 1, 1]), "the header is wrong"),
    "negative dimension": (nifti(dim=[3, 6, -5, 4, 1, 1, 1, 1]), r"(a volume with three axes|not a readable)"),
    "no dimensions": (nifti(dim=[0] * 8), "a volume with three axes is needed"),
    "unknown type": (nifti(datatype=77), "not a readable NIfTI"),
    "larger type": (nifti(datatype=64, bitpix=64), "the header is wrong"),
    "complex": (nifti(VOXELS.astype(np.complex64)), "voxels of type complex64; real numbers"),
    "offset": (nifti(vox_offset=np.nan), "not a readable NIfTI"),
    "4-D": (nifti(np.zeros((3, 4, 5, 6), np.float32)), r"shape \(6, 5, 4, 3\); a volume with three axes"),
    "2-D": (nifti(VOXELS[0]), "a volume with three axes"),
    "NaN": (nifti(np.where(VOXELS == 7, np.nan, VOXELS)), "2 of 120 voxels are NaN or infinite"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_a_sentence_with_its_name(content, message):
    with pytest.raises(DataError, match=f"^head.nii: .*{message}|^head.nii: {message}"):
        read_volume(content, name="head.nii")


def test_one_point_in_time_is_a_volume():
    np.testing.assert_array_equal(read_volume(nifti(VOXELS[None])).image, VOXELS)


def test_a_gzip_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(volumes, "MAX_BYTES", 10_000)
    with pytest.raises(DataError, match="more than 10,000 bytes unpacked"):
        read_volume(gzip.compress(nifti() + bytes(50_000)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (nifti(VOXELS[1:]), r"labels of a: shape \(3, 5, 6\) .* the image has \(4, 5, 6\)"),
        (nifti(VOXELS, np.diag([1.5, 0.7, 1.0, 1.0])), "affine matrix .* differs from the image's"),
        (nifti(VOXELS), "the label 3 occurs; whole numbers 0 to 2"),
        (nifti(VOXELS % 2 - 1), "the label -1 occurs"),
        (nifti(VOXELS % 2 / 2), "the label 0.5 occurs"),
    ],
    ids=["shape", "affine", "too large", "negative", "fraction"],
)
def test_labels_that_do_not_fit_are_a_sentence(labels, message):
    with pytest.raises(DataError, match=message):
        read_volume(nifti(), labels, "a", classes=3)


# ---------------------------------------------------------------------------------------- the archive
def tar(path, members) -> str:
    """A tar archive of (name, content or the target of a link)."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return str(path)


IMAGE, LABELS = "Task04/imagesTr/{}.nii.gz", "Task04/labelsTr/{}.nii.gz"
PAIR = [(IMAGE.format("a"), gzip.compress(nifti())), (LABELS.format("a"), gzip.compress(nifti(VOXELS % 3)))]


def test_the_archive_is_read_without_the_files_of_macos(tmp_path):
    other = [(name.replace("/a.", "/hippocampus_001."), content) for name, content in PAIR]
    macos = [("Task04/imagesTr/._a.nii.gz", b"Mac OS X"), ("Task04/dataset.json", b"{}")]
    path = tar(tmp_path / "x.tar", other + macos + PAIR)
    found = read_hippocampus(path)
    assert [volume.id for volume in found] == ["a", "hippocampus_001"]
    np.testing.assert_array_equal(found[0].labels, VOXELS % 3)
    assert len(read_hippocampus(path, limit=1)) == 1


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "no files imagesTr/"),
        (PAIR[1:], "no files imagesTr/"),
        (PAIR[:1], "labelsTr/a.nii.gz is missing"),
        ([*PAIR, ("../../evil.nii.gz", b"x")], "refused: '../../evil.nii.gz' leads out"),
        ([*PAIR, ("/etc/evil.nii.gz", b"x")], "refused: '/etc/evil.nii.gz'"),
        ([*PAIR, (IMAGE.format("b"), "/etc/passwd")], "refused: .*b.nii.gz' leads out of the archive, or is a link"),
        ([PAIR[0], *PAIR], "two files of the name"),
        ([(PAIR[0][0], b"x" * 90), PAIR[1]], "a.nii.gz: not a readable NIfTI"),
    ],
    ids=["empty", "no images", "no labels", "dots", "absolute", "link", "twice", "damaged"],
)
def test_a_bad_archive_is_a_sentence(tmp_path, members, message):
    with pytest.raises(DataError, match=message):
        read_hippocampus(tar(tmp_path / "x.tar", members))


@pytest.mark.parametrize("damage", [lambda b: b[:900], lambda b: b"", lambda b: b"x" * 2000], ids=["cut", "0", "other"])
def test_a_damaged_archive_is_a_sentence(tmp_path, damage):
    path = tmp_path / "x.tar"
    path.write_bytes(damage(Path(tar(path, PAIR)).read_bytes()))
    with pytest.raises(DataError, match=r"x.tar: (not a tar archive, or a damaged one|no files)"):
        read_hippocampus(path)


def test_a_large_member_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(volumes, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 100 are read"):
        read_hippocampus(tar(tmp_path / "x.tar", PAIR))


# ---------------------------------------------------------------------------------------- for a net
def test_the_split_is_fixed():
    names = [f"hippocampus_{n:03d}" for n in range(1, 395)]
    training, held_out = split_volumes([Volume(name, VOXELS, None, SPACING) for name in [*names, "my own"]])
    assert len(held_out) == len(volumes.HELD_OUT) == 40
    assert len(training) + len(held_out) == len(names) + 1
    assert training[-1].id == "my own"


@pytest.mark.parametrize("shape", [(7, 9, 6), (2, 3, 4), (3, 8, 6)], ids=str)
def test_padding_and_cropping_keep_the_middle_and_invert_each_other(shape):
    changed = data.pad_or_crop(VOXELS, shape)
    assert changed.shape == shape
    middle = tuple(min(a, b) for a, b in zip(shape, VOXELS.shape))
    np.testing.assert_array_equal(data.pad_or_crop(changed, middle), data.pad_or_crop(VOXELS, middle))
    assert np.count_nonzero(changed) <= np.count_nonzero(VOXELS)


def test_stacked_volumes_are_normalized_and_padded():
    bright = Volume("bright", 1000 * VOXELS + 5e4, (VOXELS % 3).astype(np.uint8), SPACING)
    flat = Volume("flat", np.full((3, 3, 3), 9.0, np.float32), None, SPACING)
    images, labels = stack_volumes([Volume("a", VOXELS, None, SPACING), bright, flat], (6, 8, 6))
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == ((3, 6, 8, 6, 1), np.float32, (3, 6, 8, 6), "u1")
    np.testing.assert_allclose(images[0], images[1], atol=1e-4)  # the scale of the intensities does not matter
    assert abs(images[0].sum()) < 1e-3 and abs(images[0].std() * np.sqrt(288 / 120) - 1) < 1e-3
    assert labels[1].sum() == (VOXELS % 3).sum() and not labels[0].any() and not images[2].any()


def test_synthetic_volumes_have_the_sizes_of_real_ones():
    drawn = data.synthetic_volumes(np.random.default_rng(0), 8)
    _, labels = stack_volumes(drawn)
    counts = np.array([[(label == part).sum() for part in (1, 2)] for label in labels])
    assert (np.abs(counts.mean(axis=0) - (1722, 1579)) < 400).all()
    assert all((volume.labels > 0).sum() == count.sum() for volume, count in zip(drawn, counts))  # all fit
    anterior, posterior = (np.argwhere(labels[0] == part).mean(axis=0) for part in (1, 2))
    assert anterior[1] > posterior[1] + 10 and anterior[0] < posterior[0]
    assert np.array_equal(data.synthetic_volumes(np.random.default_rng(0), 1)[0].image, drawn[0].image)


def test_without_the_archive_synthetic_volumes_take_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYNET_DATA", str(tmp_path))
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path))
    training, held_out, source = data.hippocampus_or_synthetic(None, 0, (2, 1))
    assert (len(training), len(held_out)) == (2, 1)
    assert "synthetic" in source and "get it from https" in source
    with pytest.raises(DataError, match="was not found"):
        data.hippocampus_or_synthetic(tmp_path, 0)
    real = data.hippocampus_or_synthetic(tar(tmp_path / "x.tar", PAIR), 0, synthetic=True)
    assert len(real[0]) == 1 and "hippocampus" in real[2]


def test_the_spacing_is_said_and_nothing_to_stack_is_a_sentence():
    volume = data.Volume("a", np.zeros((2, 3, 4), np.float32), None, (1.0, 1.0, 0.5))
    other = data.Volume("b", volume.image, None, (2.5, 1.0, 0.5))
    assert volumes.spacing_text([volume]) == "voxels of 1 x 1 x 0.5 mm (z, y, x)"
    assert volumes.spacing_text([volume, other]) == "voxels of 1-2.5 x 1 x 0.5 mm (z, y, x)"
    with pytest.raises(ValueError, match="stack_volumes: volumes is empty"):
        data.stack_volumes([])
    with pytest.raises(ValueError, match=r"pad_or_crop: volume has shape \(2, 3, 4\); shape \(4, 4\) has other axes"):
        data.pad_or_crop(volume.image, (4, 4))
