"""MedMNIST: medical images in the format of MNIST, 28 x 28 pixels (Yang et al., MedMNIST v2 - A large-scale lightweight
benchmark for 2D and 3D biomedical image classification, Scientific Data 10, 2023).

BreastMNIST is one of them: ultrasound images of breasts (Al-Dhabyani et al., Dataset of breast ultrasound images, Data
in Brief 28, 2020), each with a malignant tumor or without.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import read_npz
from .download import find_data
from .mnist import ImageSet

PARTS = ("train", "val", "test")
BREAST = "medmnist/breastmnist.npz"


def read_breastmnist(part: str, given: str | Path | None = None) -> ImageSet:
    """BreastMNIST: 546 ultrasound images for training ("train"), 78 for validation ("val"), 156 for testing ("test").

    images: (N, 28, 28, 1), gray. classes: 1 is malignant, 0 benign or normal (the file has the opposite numbers).
    given: the file or a folder that holds it; the default is what `data_path` finds. Raises DataError if the file is
    not found or has other contents.
    """
    path = find_data(BREAST, given)
    images, labels = read_medmnist(path, part)
    found = labels.min(initial=0), labels.max(initial=0)
    if images.shape[1:] != (28, 28) or labels.shape[1] != 1 or found[0] < 0 or found[1] > 1:
        raise DataError(
            f"{path}: images {images.shape} and {labels.shape} labels from {found[0]} to {found[1]}; BreastMNIST has "
            "(N, 28, 28) and (N, 1), 0 or 1"
        )
    return ImageSet(images[..., None], 1 - labels[:, 0].astype(np.int64), ("benign or normal", "malignant"))


def read_medmnist(path: str | Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 (N, H, W) or (N, H, W, 3), and labels, uint8 (N, tasks), of one part of a MedMNIST file.

    part: "train", "val" or "test". A file with pickles is refused. Raises ValueError for another part, and DataError
    with the name of the file if it is of another kind or damaged, or if its arrays do not fit.
    """
    if part not in PARTS:
        raise ValueError(f"read_medmnist: part is {part!r}; it must be one of {', '.join(PARTS)}")
    names = (f"{part}_images", f"{part}_labels")
    try:
        arrays = read_npz(path, names)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable npz file of plain arrays ({error})") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"{path}: no array {missing[0]}; a MedMNIST file has {names[0]} and {names[1]}")
    images, labels = (arrays[name] for name in names)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
        raise DataError(f"{path}: {names[0]} is {images.dtype} {images.shape}; uint8 (N, H, W[, 3]) is needed")
    if labels.dtype.kind not in "iu" or labels.shape[:1] != images.shape[:1] or labels.ndim > 2:
        raise DataError(f"{path}: {names[1]} is {labels.dtype} {labels.shape}; whole numbers ({len(images)}, tasks)")
    return images, labels.reshape(len(images), -1)  # some copies of the data set have labels (N,)
