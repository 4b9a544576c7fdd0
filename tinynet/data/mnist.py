"""MNIST: 70,000 handwritten digits, 28 x 28 pixels (LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to
document recognition, Proceedings of the IEEE 86, 1998), and a small set of digits that can replace it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import most_unpacked
from .download import find_data

PARTS = {"train": "train", "test": "t10k"}  # part -> its name in the file names
DIGITS = tuple("0123456789")
UBYTE = 8  # idx's code for unsigned bytes, the only supported type
MAX_DIMENSIONS = 4  # no real file has more


@dataclass
class ImageSet:
    """Images of one size, with their classes.

    images: uint8 (N, H, W, C). labels: class numbers 0, 1, ..., int64 (N,). classes: a name for each class.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index: np.ndarray | slice) -> ImageSet:
        """A part of the images: `index` is a boolean (N,), or numbers (M,), or a slice."""
        return ImageSet(self.images[index], self.labels[index], self.classes)

    def rows(self) -> np.ndarray:
        """Each image as a row of numbers from 0 to 1: float32 (N, H * W * C)."""
        return self.images.reshape(len(self), -1).astype(np.float32) / 255


def read_mnist(part: str, given: str | Path | None = None) -> ImageSet:
    """MNIST's 60,000 digits for training ("train") or 10,000 for testing ("test"), white on black, (N, 28, 28, 1).

    given: the folder with the four files, or a folder that holds this folder as `mnist`; the default is what
    `data_path` finds. Raises DataError if the files are not found or have other contents.
    """
    if part not in PARTS:
        raise ValueError(f"read_mnist: part is {part!r}; it must be 'train' or 'test'")
    paths = [find_data(f"mnist/{PARTS[part]}-{kind}-ubyte.gz", given) for kind in ("images-idx3", "labels-idx1")]
    images, labels = (read_idx(path) for path in paths)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(f"{paths[0]}: the shape is {images.shape}; digits of 28 x 28 pixels, (N, 28, 28), are needed")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{paths[1]}: labels of shape {labels.shape} for {len(images)} images; one for each is needed")
    if labels.max(initial=0) > 9:
        raise DataError(f"{paths[1]}: a label is {labels.max()}; digits from 0 to 9 are needed")
    return ImageSet(images[..., None], labels.astype(np.int64), DIGITS)


def handwritten_digits(given: str | Path | None = None) -> tuple[ImageSet, ImageSet, str]:
    """(training set, test set, their description): MNIST if it is found, otherwise the digits of scikit-learn.

    scikit-learn has 1,797 digits of 8 x 8 pixels, enlarged here to MNIST's format. They train the same nets, but
    results cannot be compared with MNIST's. The last fifth is the test set. Raises DataError if `given` does not hold
    MNIST, and if neither set is found.
    """
    try:
        training, test = read_mnist("train", given), read_mnist("test", given)
        return training, test, f"MNIST ({len(training):,} + {len(test):,} digits)"
    except DataError as error:
        if given is not None:
            raise
        reason = error
    try:
        digits = _small_digits()
    except DataError as error:
        raise DataError(f"{reason}; and in its place: {error}") from error
    count = len(digits) * 4 // 5
    training, test = digits.subset(np.arange(count)), digits.subset(np.arange(count, len(digits)))
    return training, test, f"scikit-learn's small digits ({len(training):,} + {len(test)}), because {reason}"


def _small_digits() -> ImageSet:
    """scikit-learn's digits in MNIST's format: the digit fills 20 x 20 of 28 x 28 pixels."""
    from PIL import Image

    from .tables import bundled

    table = bundled("digits")
    levels = np.rint(table.features.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(level).resize((20, 20), Image.Resampling.BICUBIC)) for level in levels]
    return ImageSet(np.pad(large, ((0, 0), (4, 4), (4, 4)))[..., None], table.target, DIGITS)


def read_idx(path: str | Path) -> np.ndarray:
    """Read an idx.gz file of unsigned bytes: uint8, in the shape of its header.

    The format: two zero bytes, the type (8: unsigned bytes), the number of dimensions; each dimension as 4 bytes, most
    significant first; the values in row-major order. Raises DataError if the file has another format, is damaged or cut
    short, holds more values than its header says, or unpacks to more than `most_unpacked`.
    """
    most = most_unpacked(path) if Path(path).is_file() else 0
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(most + 1)  # to the end, so that gzip compares its checksum
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable gzip file ({error})") from error
    if len(data) > most:
        raise DataError(f"{path}: unpacks to more than {most:,} bytes, which is too much for a file of its size")
    if len(data) < 4 or data[:3] != bytes([0, 0, UBYTE]) or not 1 <= data[3] <= MAX_DIMENSIONS:
        raise DataError(f"{path}: not an idx file of unsigned bytes: it starts with {data[:4].hex(' ') or 'nothing'}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"{path}: cut short within its header")
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist())
    values = np.frombuffer(data, np.uint8)[start:]
    if values.size != math.prod(shape):
        raise DataError(f"{path}: the header says {shape}, {math.prod(shape):,} values; the file holds {values.size:,}")
    return values.reshape(shape)
