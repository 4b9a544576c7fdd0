"""Nuclei images with their label images: reading, kinds of images, and the train/validation split.

There are two layouts, each in a zip archive or a folder, with or without a top folder:

* Kaggle's, of the 2018 Data Science Bowl (BBBC038; Caicedo et al., Nature Methods 16, 2019):
  `<id>/images/<id>.png` and `<id>/masks/*.png`, one mask for each nucleus;
* your own: `images/<name>.*` and `labels/<name>.*`, label images (0 background, each nucleus its own number).
"""

from __future__ import annotations

import csv
import functools
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError
from ..imaging.intensity import gray, normalize  # noqa: F401 (`tn.data.normalize` is documented)
from .decode import decode_labels, decode_mask
from .eight_bits import to_rgb8
from .files import ImageFiles
from .microscopy import image_stem, read_plane, read_planes

KINDS = ("fluorescence", "histology", "brightfield")
SPLIT_TABLE = Path(__file__).with_name("nuclei_split.csv")
EXAMPLE = Path(__file__).with_name("example_nuclei")


@dataclass
class Sample:
    """One image and its nuclei.

    `image` (H, W, 3) uint8; `labels` (H, W) int32, 0 background and 1..n the nuclei, or None if they are not marked;
    `kind` one of `KINDS`; `group` is the same for images of one field or of one look.
    """

    id: str
    image: np.ndarray
    labels: np.ndarray | None
    kind: str
    group: str


def read_nuclei(
    path: str | Path,
    ids: Iterable[str] | None = None,
    progress: bool = True,
    limit: int | None = None,
    channel: int | str | None = None,
) -> list[Sample]:
    """Read images and their labels from a zip archive or a folder, sorted by id.

    `ids`: read only these. `limit`: read only this many, the first ones. `progress`: show a bar on a terminal.
    `channel`: the channel of the nuclei in images with several channels, as for `read_planes`.

    If two masks overlap, the mask whose name sorts first keeps the pixel. Empty masks are skipped, with one warning for
    all.

    Raises `DataError` with the name of the file if it is broken (see `ImageFiles` and `decode`), if an image has no
    masks and no label image, if a mask has another size than its image, if there is no image, and for an unknown id.
    """
    from tqdm import tqdm

    with ImageFiles(path) as files:
        files.check_names()
        entries = _layout(files)
        if ids is not None:
            ids = sorted(set(ids))
            missing = [i for i in ids if i not in entries]
            if missing:
                raise DataError(f"{path}: no image with id {missing[0]!r} ({len(missing)} of {len(ids)} ids missing)")
            entries = {i: entries[i] for i in ids}
        entries = dict(list(entries.items())[:limit])
        groups = {row["id"]: row["group"] for row in split_table()}
        skipped: list[str] = []
        samples = []
        hide = not (progress and sys.stderr.isatty())
        for id_, (image_name, label_names) in tqdm(entries.items(), "reading images", disable=hide, unit="image"):
            image = to_rgb8(read_plane(files, image_name, channel).pixels, files.where(image_name))
            if PurePosixPath(label_names[0]).parts[-2] == "masks":
                labels = _paint_masks(files, label_names, image.shape[:2], skipped)
            else:
                labels = _read_labels(files, label_names[0], image.shape[:2])
            samples.append(Sample(id_, image, labels, image_kind(image), groups.get(id_, id_)))
    if skipped:
        warnings.warn(f"{path}: {len(skipped)} empty masks skipped, the first is {skipped[0]}", stacklevel=2)
    return samples


def example_nuclei() -> Sample:
    """The image that comes with tinynet: fluorescence, (256, 320, 3), with 58 nuclei, many of which touch.

    It is a validation image of the 2018 Data Science Bowl (BBBC038, CC0): the shipped U-Net was not trained on it.
    """
    return read_nuclei(EXAMPLE, progress=False)[0]


def _layout(files: ImageFiles) -> dict[str, tuple[str, list[str]]]:
    """The files of each id: {id: (image name, mask names or [label image name])}, sorted by id."""
    paths = [PurePosixPath(name) for name in files.names]
    own = any(p.parent.name == "labels" or str(p.parent) == "images" for p in paths)
    images: dict[str, str] = {}
    labels: dict[str, list[str]] = {}
    for p in paths:
        id_ = (
            image_stem(p.name) if own else p.parent.parent.name
        )  # Kaggle: the folder's name; own folders: the file's name
        if p.parent.name == "images":
            if id_ in images:
                raise DataError(f"{files.where(str(p))}: a second image of {id_!r}, after {images[id_]}; need one")
            images[id_] = str(p)
        elif p.parent.name == ("labels" if own else "masks"):
            labels.setdefault(id_, []).append(str(p))
    if not images:
        raise DataError(f"{files.path}: no images; need <id>/images/ and <id>/masks/, or images/ and labels/")
    alone = sorted(name for id_ in labels.keys() - images for name in labels[id_])
    if alone:
        warnings.warn(f"{files.path}: {len(alone)} masks without an image, the first is {alone[0]}", stacklevel=3)
    for id_, name in images.items():
        found = labels.get(id_, [])
        if not found or (own and len(found) > 1):
            need = "exactly one label image of the same name in labels/" if own else "its masks in masks/"
            without = sum(not labels.get(id_) for id_ in images)
            raise DataError(
                f"{files.where(name)}: need {need}, found {len(found)} ({without} of {len(images)} images have none)"
            )
    return {id_: (images[id_], sorted(labels[id_])) for id_ in sorted(images)}


def _paint_masks(files: ImageFiles, names: list[str], shape: tuple[int, int], skipped: list[str]) -> np.ndarray:
    """One label image from masks of one nucleus each. Names of masks without a pixel of their own go to `skipped`."""
    labels = np.zeros(shape, np.int32)
    count = 0
    for name in names:
        mask = decode_mask(files.read(name), files.where(name))
        if mask.shape != shape:
            raise DataError(
                f"{files.where(name)}: mask of {mask.shape[1]} x {mask.shape[0]}; "
                f"its image has {shape[1]} x {shape[0]} (width x height)"
            )
        free = mask & (labels == 0)
        if not free.any():
            skipped.append(files.where(name))
            continue
        count += 1
        labels[free] = count
    return labels


def _read_labels(files: ImageFiles, name: str, shape: tuple[int, int]) -> np.ndarray:
    """A label image, renumbered 1..n. A mask, which holds one number only, is split into its components."""
    from skimage.measure import label

    where = files.where(name)
    stored = decode_labels(files.read(name), where)
    if stored.shape != shape:
        raise DataError(f"{where}: label image of shape {stored.shape}; its image has {shape}")
    if stored.dtype.kind == "f" and not (np.isfinite(stored).all() and (stored == np.rint(stored)).all()):
        raise DataError(f"{where}: labels must be whole numbers, found fractions or NaN")
    if stored.min() < 0:
        raise DataError(f"{where}: label {stored.min()}; need 0 for background and positive numbers")
    if stored.dtype == np.float32 and stored.max() > 2**24:
        raise DataError(f"{where}: label {stored.max():.0f}; float32 holds whole numbers to {2**24:,}, save integers")
    numbers, labels = np.unique(stored, return_inverse=True)
    labels = labels.reshape(shape).astype(np.int32)
    if numbers[0] > 0:  # without a background pixel the first number is a nucleus
        labels += 1
    pieces, count = label(labels, return_num=True, connectivity=2)
    if labels.max() == 1 < count:
        warnings.warn(
            f"{where}: a mask, not a label image: all its nuclei have the number {numbers[-1]:g}. It was split into "
            f"{count} connected components; nuclei that touch are one",
            stacklevel=3,
        )
        return pieces.astype(np.int32)
    if count > 2 * labels.max():
        warnings.warn(
            f"{where}: {labels.max()} numbers in {count} separate pieces; each nucleus needs a number of its own",
            stacklevel=3,
        )
    return labels


def read_images(paths: str | Path | Iterable[str | Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Images alone, of any size, one at a time: pairs of (name, (H, W, 3) uint8), see `to_rgb8`.

    They are the planes of `read_planes`, which describes the names and errors and can choose a channel.
    """
    for plane in read_planes(paths):
        yield plane.name, to_rgb8(plane.pixels, plane.source)


def image_kind(image: np.ndarray) -> str:
    """How an image was made: "fluorescence" (bright nuclei on dark), "histology" (stained) or "brightfield" (gray).

    Histology: colored (the channels differ by more than 8 levels on average) and not dark (gray median above 80).
    Otherwise bright (median above 127) is brightfield, and dark is fluorescence. `image` (H, W, 3) uint8.
    """
    red, green, blue = np.moveaxis(image, 2, 0)
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    color = float((highest - lowest).mean())
    median = float(np.median(gray(image)))
    if color > 8 and median > 80:
        return "histology"
    return "brightfield" if median > 127 else "fluorescence"


@functools.cache
def split_table() -> tuple[dict[str, str], ...]:
    """The committed split: a row for each known image, with the keys id, kind, group and split."""
    with SPLIT_TABLE.open(newline="") as file:
        return tuple(csv.DictReader(file))


def validation_ids() -> frozenset[str]:
    """The ids of the committed validation split; `make_split` chose them."""
    return frozenset(row["id"] for row in split_table() if row["split"] == "validation")


def hold_out(samples: Iterable[Sample]) -> tuple[list[Sample], list[Sample]]:
    """(training, held out): a user's own images, in which the committed split names none.

    Every fifth image is held out, and at least one of two or more. A single image is for training, and none is held
    out. Images with nuclei and images without any are counted apart, so that the training images hold nuclei. If two
    images have the same pixels, both are for training: a copy must not be measured on.
    """
    samples = list(samples)
    copies = Counter(sample.image.tobytes() for sample in samples)
    single = [s for s in samples if copies[s.image.tobytes()] == 1]
    marked = [s for s in single if s.labels is not None and s.labels.any()]
    empty = [s for s in single if s.labels is None or not s.labels.any()]
    chosen = marked[4::5] or marked[1:2]
    held_out = {s.id for s in chosen + empty[4::5]}
    return [s for s in samples if s.id not in held_out], [s for s in samples if s.id in held_out]


def split(samples: Iterable[Sample]) -> tuple[list[Sample], list[Sample]]:
    """(training, validation) by the committed split. Unknown images are for training."""
    samples = list(samples)
    held_out = validation_ids()
    return [s for s in samples if s.id not in held_out], [s for s in samples if s.id in held_out]
