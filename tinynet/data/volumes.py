"""Volumes: 3-D images with labels in the NIfTI format, and the hippocampus set of the Medical Segmentation Decathlon.

The hippocampus set holds 220 small MR volumes (about 36 x 50 x 35 voxels of 1 mm) around one hippocampus each, with
labels 1 (anterior part, the head) and 2 (posterior part, body and tail). The package nibabel reads the files.
Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 2022, task 4; CC BY-SA 4.0.
"""

from __future__ import annotations

import gzip
import io
import math
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import DataError, how_to_install
from .download import find_data

HIPPOCAMPUS = "hippocampus/Task04_Hippocampus.tar"
PARTS = ("background", "anterior", "posterior")  # the classes 0, 1, 2
SHAPE = (48, 64, 48)  # voxels (z, y, x); every volume of the set fits
MAX_BYTES = 512 * 2**20  # of one file, unpacked
HEADER_BYTES = 352  # of NIfTI-1, before the voxels
# Held out: 40 of the 220 volumes, np.random.default_rng(2018).permutation(220)[:40] in the order of the names. The list
# is fixed, so that results of different programs can be compared.
HELD_OUT = (
    1, 4, 20, 25, 46, 49, 51, 52, 60, 92, 98, 130, 138, 164, 178, 184, 189, 199, 222, 225,
    236, 242, 249, 251, 260, 263, 265, 282, 290, 301, 310, 321, 332, 354, 355, 356, 373, 375, 376, 385,
)  # fmt: skip


@dataclass
class Volume:
    """One volume. The axes are (z, y, x): z goes up to the top of the head, y to the face, x to the patient's right.

    id: name of the file without suffix. image: float32 (D, H, W), in the units of the file. labels: uint8 (D, H, W), 0
    for background, or None. spacing: size of a voxel in mm (z, y, x); distances in mm need it.
    """

    id: str
    image: np.ndarray
    labels: np.ndarray | None
    spacing: tuple[float, float, float]


def read_volume(
    source: str | Path | bytes, labels: str | Path | bytes | None = None, name: str = "", classes: int = 256
) -> Volume:
    """Read a NIfTI file (.nii, .nii.gz), and the file of its labels if there is one.

    source, labels: paths, or the bytes of the files. name: the id, and the name in messages; by default from the path.
    classes: the labels must be whole numbers from 0 to classes - 1. Permuted and mirrored axes are brought to the order
    of `Volume`, by the affine matrix of the file; oblique axes go to the nearest one, without interpolation.

    Raises DataError with the name of the file if it is damaged, has no valid affine matrix, more or less than three
    dimensions, or voxels that are not finite real numbers; and if the labels have another shape or affine matrix.
    """
    name = name or ("volume" if isinstance(source, bytes) else Path(source).name)
    image, affine, spacing = _read_nifti(source, name)
    label_volume = None
    if labels is not None:
        label_name = f"labels of {name}" if isinstance(labels, bytes) else str(labels)
        values, label_affine, _ = _read_nifti(labels, label_name)
        if values.shape != image.shape:
            raise DataError(f"{label_name}: shape {values.shape} (z, y, x); the image has {image.shape}")
        if not np.allclose(label_affine, affine, rtol=1e-4, atol=1e-3):
            raise DataError(
                f"{label_name}: the affine matrix {label_affine.round(3).tolist()} differs from the image's "
                f"{affine.round(3).tolist()}: the labels belong to another place; resample them to the image first"
            )
        wrong = (values != np.rint(values)) | (values < 0) | (values >= classes)
        if wrong.any():
            raise DataError(
                f"{label_name}: the label {values[wrong][0]:g} occurs; whole numbers 0 to {classes - 1} are needed"
            )
        label_volume = values.astype(np.uint8)
    return Volume(name.removesuffix(".gz").removesuffix(".nii"), image, label_volume, spacing)


def _read_nifti(source: str | Path | bytes, name: str) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """(voxels, affine matrix, spacing) of one file: float32 (z, y, x), (4, 4) in RAS order of axes, mm (z, y, x)."""
    try:
        import nibabel
    except ImportError as error:
        raise DataError(f"{name}: NIfTI files are read by nibabel: {how_to_install('examples')}") from error
    data = _unpacked(source, name)
    try:
        stored: Any = nibabel.Nifti1Image.from_bytes(data)
        header = stored.header
        _check_header(header, stored.affine, len(data), name)
        shape = stored.shape
        while len(shape) > 3 and shape[-1] == 1:  # some programs write one point in time as a fourth axis
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 1:
            raise DataError(f"{name}: shape {shape}; a volume with three axes is needed, for example one point in time")
        if header.get_data_dtype().kind not in "uif":
            raise DataError(f"{name}: voxels of type {header.get_data_dtype()}; real numbers are needed")
        voxels = np.asarray(stored.dataobj, dtype=np.float32).reshape(shape)
        upright = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, stored.affine))
    except DataError:
        raise
    except Exception as error:  # nibabel raises errors of many kinds for damaged files
        raise DataError(f"{name}: not a readable NIfTI file ({error})") from error
    voxels = np.ascontiguousarray(np.asarray(upright.dataobj).transpose(2, 1, 0))
    unusable = np.count_nonzero(~np.isfinite(voxels))
    if unusable:
        raise DataError(f"{name}: {unusable:,} of {voxels.size:,} voxels are NaN or infinite; replace them first")
    x, y, z = (float(step) for step in np.linalg.norm(upright.affine[:3, :3], axis=0))
    return voxels, upright.affine, (z, y, x)


def _unpacked(source: str | Path | bytes, name: str) -> bytes:
    """The bytes of a .nii file, unpacked if gzip has packed them; at most MAX_BYTES of them."""
    try:
        if not isinstance(source, bytes) and Path(source).stat().st_size > MAX_BYTES:
            raise DataError(f"{name}: more than {MAX_BYTES:,} bytes; that much is not read")
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: damaged, cut short or not there ({error})") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: more than {MAX_BYTES:,} bytes unpacked; that much is not read")
    return data


def _check_header(header: Any, affine: np.ndarray, found: int, name: str) -> None:
    """Raise DataError unless the file knows where its voxels are, and holds all of them."""
    if header["qform_code"] <= 0 and header["sform_code"] <= 0:
        raise DataError(f"{name}: no affine matrix (qform and sform are not set), so its orientation is unknown")
    steps = affine[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    if not np.isfinite(affine).all() or (lengths == 0).any() or abs(np.linalg.det(steps / lengths)) < 0.01:
        raise DataError(f"{name}: the affine matrix {affine.round(3).tolist()} is not finite or not invertible")
    voxels = math.prod(int(size) for size in header.get_data_shape())
    start = max(HEADER_BYTES, int(header["vox_offset"]))  # nibabel sets the field to 0 if it has the usual value
    needed = start + voxels * header.get_data_dtype().itemsize
    if needed > found:
        raise DataError(
            f"{name}: {found:,} bytes; the header's shape {header.get_data_shape()} of {header.get_data_dtype()} "
            f"needs {needed:,}: the file is cut short, or the header is wrong"
        )


# ---------------------------------------------------------------------------------------- hippocampus
def read_hippocampus(given: str | Path | None = None, limit: int | None = None) -> list[Volume]:
    """The hippocampus volumes with labels, sorted by name. Nothing is extracted from the archive.

    given: Task04_Hippocampus.tar or a folder with it, as after `--data`; the default is what `data_path` finds. limit:
    at most so many volumes. Raises DataError if the archive is not found, damaged or malicious, if a member is damaged
    (the message names it) or an image has no labels, and if nibabel is not installed.
    """
    path = find_data(HIPPOCAMPUS, given)
    try:
        with tarfile.open(path, "r:") as archive:
            members = _members(archive, path)
            names = sorted(name for folder, name in members if folder == "imagesTr")[:limit]
            if not names:
                raise DataError(f"{path}: no files imagesTr/*.nii.gz with volumes in it")
            volumes = []
            for name in names:
                if ("labelsTr", name) not in members:
                    raise DataError(f"{path}: labelsTr/{name} is missing: every image needs its labels")
                image, labels = (archive.extractfile(members[part, name]).read() for part in ("imagesTr", "labelsTr"))  # type: ignore[union-attr]
                volumes.append(read_volume(image, labels, name, len(PARTS)))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a tar archive, or a damaged one ({error})") from error
    return volumes


def _members(archive: tarfile.TarFile, path: Path) -> dict[tuple[str, str], tarfile.TarInfo]:
    """{(folder, file name): member} of the NIfTI files. Raises DataError for a malicious or too large member."""
    members = {}
    for member in archive:
        inside = PurePosixPath(member.name)
        if inside.is_absolute() or ".." in inside.parts or not (member.isfile() or member.isdir()):
            raise DataError(f"{path}: refused: {member.name!r} leads out of the archive, or is a link or a device")
        if inside.name.startswith(".") or not inside.name.endswith((".nii", ".nii.gz")) or len(inside.parts) < 2:
            continue  # macOS puts files named ._hippocampus_001.nii.gz into archives
        if member.size > MAX_BYTES:
            raise DataError(f"{path}: {member.name} has {member.size:,} bytes; at most {MAX_BYTES:,} are read")
        if inside.parts[-2:] in members:
            raise DataError(f"{path}: damaged: it holds two files of the name {member.name!r}")
        members[inside.parts[-2], inside.name] = member
    with path.open("rb") as file:
        file.seek(archive.offset)
        end = file.read()
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):  # tarfile stops at a damaged header without a word
        raise DataError(f"{path}: cut short or damaged after byte {archive.offset:,}; get it again")
    return members


def split_volumes(volumes: Sequence[Volume]) -> tuple[list[Volume], list[Volume]]:
    """(training, held out) by the fixed list HELD_OUT: 180 and 40 of all 220. Unknown volumes are for training."""
    held_out = {f"hippocampus_{number:03d}" for number in HELD_OUT}
    return [v for v in volumes if v.id not in held_out], [v for v in volumes if v.id in held_out]


def hippocampus_or_synthetic(
    given: str | Path | None, seed: int, counts: tuple[int, int] = (24, 8), synthetic: bool = False
) -> tuple[list[Volume], list[Volume], str]:
    """(training volumes, held-out volumes, their description): the real ones if found, otherwise synthetic ones.

    given: as for `read_hippocampus`, or 'synthetic'. counts: how many synthetic volumes, for (training, held out).
    synthetic: do not look for the real ones unless `given` names them. Raises DataError if what `given` names cannot be
    read.
    """
    reason = "asked for"
    if given != "synthetic" and not (synthetic and given is None):
        try:
            training, held_out = split_volumes(read_hippocampus(given))
            sizes = f"{len(training)} + {len(held_out)} held out; {spacing_text([*training, *held_out])}"
            return training, held_out, f"hippocampus MR volumes ({sizes})"
        except DataError as error:
            if given is not None:
                raise
            reason = f"because {error}"
    training, held_out = (
        synthetic_volumes(np.random.default_rng((seed, part)), count) for part, count in enumerate(counts)
    )
    return training, held_out, f"synthetic volumes ({counts[0]} + {counts[1]} held out), {reason}"


def spacing_text(volumes: Sequence[Volume]) -> str:
    """The voxels' size for messages, such as "voxels of 1 x 1 x 1 mm (z, y, x)", with ranges where volumes differ."""
    spacings = np.array([volume.spacing for volume in volumes])
    pairs = zip(spacings.min(axis=0), spacings.max(axis=0))
    sizes = (f"{low:.3g}" if np.isclose(low, high) else f"{low:.3g}-{high:.3g}" for low, high in pairs)
    return f"voxels of {' x '.join(sizes)} mm (z, y, x)"


def stack_volumes(volumes: Sequence[Volume], shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) of one shape, ready for a net: float32 (N, D, H, W, 1) and uint8 (N, D, H, W).

    The values of each image get mean 0 and standard deviation 1 (MR images have no unit) and are clipped to -4 to 4;
    then `pad_or_crop` brings volume and labels to `shape`. Padding is 0. Missing labels are background. Raises
    ValueError without volumes.
    """
    if not volumes:
        raise ValueError("stack_volumes: volumes is empty; at least one volume is needed")
    images = np.stack([pad_or_crop(normalize_volume(volume.image), shape) for volume in volumes])
    labels = [np.zeros(v.image.shape, np.uint8) if v.labels is None else v.labels for v in volumes]
    return images[..., None], np.stack([pad_or_crop(label, shape) for label in labels])


def normalize_volume(image: np.ndarray) -> np.ndarray:
    """(image - mean) / standard deviation, clipped to -4 to 4: float32. A constant image becomes 0."""
    centered = image - image.mean(dtype=np.float64)
    spread = centered.std()
    return np.clip(centered / (spread or 1), -4, 4).astype(np.float32)


def pad_or_crop(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`volume` in another shape with the same middle: zeros around it where it is smaller, cut off where it is larger.

    With an odd difference, one voxel more is added or cut off at the end of the axis. Raises ValueError if the number
    of axes differs.
    """
    if volume.ndim != len(shape):
        raise ValueError(f"pad_or_crop: volume has shape {volume.shape}; shape {tuple(shape)} has other axes")
    result = np.zeros(shape, volume.dtype)
    excess = [have - want for have, want in zip(volume.shape, shape)]
    source = tuple(slice(max(0, n) // 2, max(0, n) // 2 + min(a, b)) for n, a, b in zip(excess, volume.shape, shape))
    target = tuple(slice(max(0, -n) // 2, max(0, -n) // 2 + min(a, b)) for n, a, b in zip(excess, volume.shape, shape))
    result[target] = volume[source]
    return result


# ---------------------------------------------------------------------------------------- synthetic
def synthetic_volumes(rng: np.random.Generator, count: int) -> list[Volume]:
    """Volumes that can replace the real ones: two touching blobs in noise, the anterior one thick, the other long.

    Sizes, positions and volumes of the parts are those of the real set, about; the noise has structures of the same
    gray, so that gray alone does not find the parts. Results on these drawings have no medical meaning.
    """
    from scipy import ndimage

    volumes = []
    for number in range(count):
        shape = tuple(int(n) for n in rng.integers((31, 44, 32), (40, 55, 39)))
        z, y, x = (
            axis - (size - 1) / 2 for axis, size in zip(np.meshgrid(*map(np.arange, shape), indexing="ij"), shape)
        )
        dz, dy, dx = rng.normal(0, 1.2, 3)
        size = rng.normal(1, 0.06)

        def blob(center: tuple[float, ...], radii: tuple[float, ...], z=z, y=y, x=x, size=size) -> np.ndarray:
            return sum(((axis - c) / (size * r)) ** 2 for axis, c, r in zip((z, y, x), center, radii)) - 1

        front = blob((dz - 4, dy + 8, dx + 1), (5.5, 9, 8))
        back = blob((dz + 2 + 0.3 * dx, dy - 7, dx - 1), (5, 12, 6))
        labels = np.where(np.minimum(front, back) > 0, 0, np.where(front < back, 1, 2)).astype(np.uint8)
        texture = ndimage.gaussian_filter(rng.standard_normal(shape), 2.5)
        image = 1.2 * texture / texture.std() + 0.5 * rng.standard_normal(shape)
        tissue = ndimage.gaussian_filter((labels > 0).astype(np.float64), 0.7)
        image = 100 * rng.uniform(0.5, 2) * (4 + image * (1 - 0.6 * tissue) + 1.6 * tissue)
        volumes.append(Volume(f"synthetic {number:03d}", image.astype(np.float32), labels, (1.0, 1.0, 1.0)))
    return volumes
