"""Neighboring slices of one tissue block in different stains, with landmarks that mark the same place in each slice.

The data set of histology landmarks (Borovec et al., Benchmarking of image registration methods for differently stained
histological slides, ICIP 2018; BSD 3-clause) holds images `*.jpg` at 5 % of the size of the scans, and landmarks
`user-PS_scale-50pc/*.csv` in pixels at 50 % of that size, where PS are the annotator's initials. The reader returns
both in pixels of the images. A landmark has a number; the same number marks the same place in every slice.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError
from .download import data_path
from .eight_bits import to_rgb8
from .files import ImageFiles

LUNG = "histology_landmarks/lung-lesion_3"
ADDRESS = "https://github.com/Borda/dataset-histology-landmarks"
IMAGE_SCALE = 5.0  # percent of the size of the scans
MAX_CSV_BYTES = 2**20  # a table of 80 landmarks has 1 kB
OUTSIDE = 1.0  # pixels by which a landmark may lie outside of its image: the size of an image is rounded


@dataclass
class StainedSlice:
    """A slice of tissue. name: of its file. stain: e.g. CD31. image: uint8 (H, W, 3).

    numbers: int64 (L,), ascending. landmarks: float64 (L, 2), their places (y, x) in pixels of the image.
    """

    name: str
    stain: str
    image: np.ndarray
    numbers: np.ndarray
    landmarks: np.ndarray


def read_stained_slices(given: str | Path | None = None, annotator: str = "PS") -> list[StainedSlice]:
    """Read a set of the histology landmarks: its slices in the order of their names.

    given: the folder of the set or a data folder, as after `--data`; the default is what `data_path` finds for
    "histology_landmarks/lung-lesion_3". annotator: who placed the landmarks; in that set PS marked five slices, JB two.
    Slices without a table of this annotator are left out. A landmark whose row is missing, or has an empty coordinate,
    is missing in its slice: `common_landmarks` finds the landmarks that two slices share.

    Raises DataError if the set is not found, if fewer than two slices have landmarks, for an image or a table that is
    damaged, for a number that occurs twice, and for a landmark outside of its image.
    """
    folder = data_path(LUNG, given)
    if folder is None or not folder.is_dir():
        where = "in TINYNET_DATA or in the cache" if folder is None else f"at {folder}, which is no folder"
        raise DataError(f"{LUNG} was not found {where}; get it from {ADDRESS} and name it with --data")
    tables, scale = _tables(folder, annotator)
    with ImageFiles(folder) as files:
        names = [name for name in files.names if PurePosixPath(name).stem in tables]
        stems = [PurePosixPath(name).stem for name in names]
        if len(set(stems)) < len(stems):
            raise DataError(f"{folder}: two images have the name {max(stems, key=stems.count)!r}; keep those at 5 %")
        if len(stems) < 2:
            raise DataError(f"{folder}: {len(stems)} images with landmarks of {annotator}; two or more are needed")
        images = [to_rgb8(files.read_array(name), files.where(name)) for name in names]
    slices = []
    for stem, image in zip(stems, images):
        numbers, places = read_landmarks(tables[stem])
        places = places * (IMAGE_SCALE / scale)
        _check_inside(tables[stem], numbers, places, image.shape)
        slices.append(StainedSlice(stem, stain_of(stem), image, numbers, places))
    return slices


def stain_of(name: str) -> str:
    """The stain in the name of a file: "CD31" of "29-041-Izd2-w35-CD31-3-les3". An unknown name is returned whole."""
    match = re.search(r"-w\d+-([A-Za-z0-9]+)-", name)
    return match.group(1) if match else name


def common_landmarks(a: StainedSlice, b: StainedSlice) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks that both slices have: two float64 arrays (L, 2) of places (y, x), in the same order.

    Raises DataError if there are fewer than three: they do not determine an affine map.
    """
    _, in_a, in_b = np.intersect1d(a.numbers, b.numbers, assume_unique=True, return_indices=True)
    if len(in_a) < 3:
        raise DataError(f"{a.name} and {b.name} have {len(in_a)} landmarks in common; three or more are needed")
    return a.landmarks[in_a], b.landmarks[in_b]


# ---------------------------------------------------------------------------------------- tables
def read_landmarks(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a table of landmarks: (numbers int64 (L,), places (y, x) float64 (L, 2)) in the units of the file.

    The first row is a header with the columns X and Y; the first column is the number of the landmark. Rows with an
    empty coordinate, or NaN, are left out. Raises DataError with the line of a wrong value.
    """
    try:
        if Path(path).stat().st_size > MAX_CSV_BYTES:
            raise DataError(f"{path}: more than {MAX_CSV_BYTES:,} bytes, which is no table of landmarks")
        rows = list(csv.reader(io.StringIO(Path(path).read_text(encoding="utf-8-sig")), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table ({error})") from error
    header = [cell.strip().upper() for cell in rows[0]] if rows else []
    if header[1:].count("X") != 1 or header[1:].count("Y") != 1:
        raise DataError(f"{path}: line 1 is {','.join(header)!r}; a column of numbers, then columns X and Y are needed")
    x, y = header.index("X"), header.index("Y")
    found: dict[int, tuple[float, float]] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path}, line {line}"
        if len(row) != len(header):
            raise DataError(f"{where}: {len(row)} cells; {len(header)} are needed")
        number = _number(row[0], where)
        if not number.is_integer():
            raise DataError(f"{where}: the number of a landmark is {row[0]!r}; a whole number is needed")
        if int(number) in found:
            raise DataError(f"{where}: landmark {int(number)} occurs twice")
        found[int(number)] = _number(row[y], where), _number(row[x], where)
    present = sorted(number for number, place in found.items() if not np.isnan(place).any())
    if not present:
        raise DataError(f"{path}: no landmark has coordinates")
    return np.array(present, dtype=np.int64), np.array([found[number] for number in present])


def _number(cell: str, where: str) -> float:
    """The number in a cell; NaN if it is empty."""
    try:
        number = float(cell.strip() or "nan")
    except ValueError as error:
        raise DataError(f"{where}: {cell!r} is not a number") from error
    if np.isinf(number) or abs(number) > 1e9:
        raise DataError(f"{where}: {cell!r} is not finite or too large; a coordinate in pixels is needed")
    return number


def _tables(folder: Path, annotator: str) -> tuple[dict[str, Path], float]:
    """({name of the slice: its table}, the scale of the tables in percent)."""
    found = [p for p in sorted(folder.glob(f"user-{annotator}_scale-*pc")) if p.is_dir()]
    if len(found) != 1:
        there = ", ".join(p.name for p in sorted(folder.glob("user-*"))) or "none"
        raise DataError(
            f"{folder}: {len(found)} folders user-{annotator}_scale-*pc with landmarks; one is needed (there: {there})"
        )
    scale = re.fullmatch(r".*_scale-(\d{1,3})pc", found[0].name)
    if scale is None or not 0 < int(scale.group(1)) <= 100:
        raise DataError(f"{found[0]}: the scale in the name of the folder must be 1 to 100 percent, as in scale-50pc")
    return {path.stem: path for path in sorted(found[0].glob("*.csv"))}, float(scale.group(1))


def _check_inside(path: Path, numbers: np.ndarray, places: np.ndarray, shape: Iterable[int]) -> None:
    height, width, *_ = shape
    outside = (places < -OUTSIDE).any(axis=1) | (places > np.array([height, width]) - 1 + OUTSIDE).any(axis=1)
    if outside.any():
        (y, x), number = places[outside][0], numbers[outside][0]
        raise DataError(
            f"{path}: landmark {number} is at y {y:.1f}, x {x:.1f} in pixels of the image, which has {height} x {width}"
            f" ({outside.sum()} of {len(numbers)} landmarks lie outside); is the scale in the folder's name right?"
        )


# ---------------------------------------------------------------------------------------- synthetic
DYES = {  # colors of (background, thin tissue, dense tissue)
    "blue": ((245, 244, 248), (150, 140, 200), (70, 60, 140)),
    "purple": ((250, 240, 246), (190, 110, 180), (110, 20, 110)),
    "pale": ((240, 240, 238), (215, 205, 215), (170, 165, 205)),
    "brown": ((246, 242, 236), (200, 175, 150), (130, 80, 40)),
}


def synthetic_stained_slices(rng: np.random.Generator, size: int = 256) -> list[StainedSlice]:
    """Four slices of one random tissue in four colors, each rotated and shifted, with 40 exact landmarks.

    size: height and width in pixels. They replace the real slices where these are missing. Each slice has a texture of
    its own at the scale of cells, because a knife's next cut meets other cells.
    """
    from scipy import ndimage

    def smooth(sigma: float) -> np.ndarray:
        noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), sigma * size, mode="wrap")
        return noise / noise.std()

    coarse, fine = smooth(0.06), smooth(0.02)
    dense, holes = coarse > 0.8, coarse < -1.2
    places = rng.uniform(0.2, 0.8, (40, 2)) * size
    center = (size - 1) / 2
    slices = []
    for stain, (paper, thin, deep) in DYES.items():
        angle, shift = rng.uniform(-0.08, 0.08), rng.uniform(-0.06, 0.06, 2) * size
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        amount = np.clip(0.4 + 0.35 * fine + 0.3 * smooth(0.006), 0, 1) * ~holes * np.where(dense, 2.0, 1.0)
        # The slice at p shows the tissue at matrix (p - center) + center + shift, so that a landmark moves inversely.
        offset = center + shift - matrix @ np.full(2, center)
        amount = ndimage.affine_transform(amount, matrix, offset, order=1, mode="reflect")[:, :, None]
        colors = np.where(
            amount < 1,
            np.array(paper) + (np.array(thin) - paper) * amount,
            np.array(thin) + (np.array(deep) - thin) * (amount - 1),
        )
        landmarks = (places - center - shift) @ matrix + center  # matrix is orthogonal
        image = np.clip(np.rint(colors), 0, 255).astype(np.uint8)
        slices.append(StainedSlice(f"synthetic {stain}", stain, image, np.arange(1, 41), landmarks))
    return slices
