"""From a foreground to single nuclei, and from single nuclei to measurements and files.

An image becomes a label image (H, W) in two steps. *Which pixels are nucleus?* A threshold (`otsu_foreground`) or a
network answers this. *Which nucleus does each pixel belong to?* This module has three answers, each better than the one
before for nuclei that touch: `connected_components`, `distance_watershed`, `seeded_watershed`.
"""

import csv
import os
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from ..files import table_file
from .checks import check_image, check_labels
from .measurements import MEASUREMENTS, each_nucleus, measure  # noqa: F401

STRIP = 1024  # rows of a label image that are counted at once
EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)


def _check_mask(function: str, mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{function}: mask has dtype {mask.dtype}, bool is needed: threshold it first")
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"{function}: mask has shape {mask.shape}, (H, W) with at least one pixel is needed")
    return mask


# --- which pixels are nucleus -------------------------------------------------------------------------------


def otsu_foreground(image: np.ndarray) -> np.ndarray:
    """Foreground by Otsu's threshold (IEEE Trans. SMC 9, 1979): a baseline without training.

    image: uint8 (H, W, 3). Returns bool (H, W). Gray is the mean of R, G and B. Nuclei are the bright side. If the
    image is bright on average (above 128), or if more than half of it would be foreground, nuclei are the dark side. A
    binary opening with a 4-neighbor cross removes specks. An image of a single gray level has no foreground.
    """
    gray = check_image("otsu_foreground", image).mean(axis=2)
    if gray.min() == gray.max():
        return np.zeros(gray.shape, dtype=bool)
    mask = gray > threshold_otsu(gray)
    if gray.mean() > 128 or mask.mean() > 0.5:
        mask = ~mask
    return ndimage.binary_opening(mask)


# --- which nucleus each pixel belongs to --------------------------------------------------------------------


def connected_components(mask: np.ndarray) -> np.ndarray:
    """Number the 8-connected components of a mask; touching nuclei become one. bool (H, W) -> int32 (H, W)."""
    labels, _ = ndimage.label(_check_mask("connected_components", mask), EIGHT_NEIGHBORS)
    return labels


def distance_watershed(mask: np.ndarray, sigma: float = 1, min_distance: int = 5) -> np.ndarray:
    """Cut touching nuclei at their necks: watershed of the distance to the background.

    As a landscape, minus the distance to the background has one basin for each nucleus and a ridge at every neck. A
    Gaussian of `sigma` pixels smooths the Euclidean distance. Its peaks are the markers: at least `min_distance` pixels
    apart inside each 8-connected component, also at the image border. The watershed floods the mask from the markers
    over 8 neighbors, so every pixel of the mask gets a nucleus.

    mask: bool (H, W). Returns int32 (H, W), 0 outside the mask.
    """
    components = connected_components(_check_mask("distance_watershed", mask))
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), sigma)
    peaks = peak_local_max(distance, min_distance=min_distance, labels=components, exclude_border=False)
    markers = np.zeros(components.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, markers, mask=mask, connectivity=2)


def otsu_watershed(image: np.ndarray) -> np.ndarray:
    """The whole baseline: `otsu_foreground`, then `distance_watershed`. uint8 (H, W, 3) -> int32 (H, W)."""
    return distance_watershed(otsu_foreground(image))


def _fill_holes(labels: np.ndarray) -> None:
    """Add background that one nucleus encloses to this nucleus, in place. Other nuclei do not change."""
    first, last = _enclosed_boxes(labels)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        start, stop = ([side.start for side in box], [side.stop for side in box])
        if (
            ((first > start) & (last < stop)).all(axis=1).any()
        ):  # in most nuclei nothing is enclosed, and to look is slow
            view = labels[box]
            view[ndimage.binary_fill_holes(view == label) & (view == 0)] = label


def _enclosed_boxes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bounding boxes of background from which no path without diagonal steps leads to the edge of the image.

    Returns (first row and column of each, last row and column + 1 of each), both int (n, 2).
    """
    regions, _ = ndimage.label(labels == 0)
    at_edge = {0, *np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])).tolist()}
    boxes = [box for number, box in enumerate(ndimage.find_objects(regions), start=1) if number not in at_edge]
    ends = np.array([[[side.start, side.stop] for side in box] for box in boxes], int).reshape(-1, 2, 2)
    return ends[:, :, 0], ends[:, :, 1]


def drop_small(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Remove nuclei of fewer than `min_size` pixels and number the others 1, 2, ... in the same order."""
    keep = np.bincount(labels.ravel()) >= min_size
    keep[0] = False
    return keep_numbers(labels, keep)


def keep_numbers(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The nuclei i with keep[i], numbered 1, 2, ... in the same order: int32 (H, W). keep: bool, keep[0] is False."""
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def seeded_watershed(
    mask_prob: np.ndarray,
    border_prob: np.ndarray,
    seed_threshold: float = 0.4,
    min_seed: int = 3,
    mask_threshold: float = 0.5,
    min_size: int = 100,
) -> np.ndarray:
    """Nuclei from two predicted maps: the foreground, and the border where two nuclei touch.

    A seed is a component of `mask_prob - border_prob > seed_threshold` with at least `min_seed` pixels: the inside of
    one nucleus, separated from its neighbors by the border. A component of the foreground (`mask_prob >
    mask_threshold`) without a seed is a seed itself. Then a watershed on `-(mask_prob - border_prob)`, whose ridges are
    the borders, regrows the seeds to the whole foreground. Holes inside a nucleus are filled, and nuclei of fewer than
    `min_size` pixels dropped (100 suits nuclei with a diameter of 24 pixels, about 450 pixels in area).

    mask_prob, border_prob: floats (H, W) in [0, 1]. Returns int32 (H, W), numbered 1, 2, ... without gaps.
    Raises TypeError or ValueError if the maps are not floats of one shape, or not finite.
    """
    mask_prob, border_prob = np.asarray(mask_prob), np.asarray(border_prob)
    for name, map_ in (("mask_prob", mask_prob), ("border_prob", border_prob)):
        if not np.issubdtype(map_.dtype, np.floating):
            raise TypeError(f"seeded_watershed: {name} has dtype {map_.dtype}, probabilities (floats) are needed")
        if map_.ndim != 2 or map_.size == 0:
            raise ValueError(f"seeded_watershed: {name} has shape {map_.shape}, (H, W) with pixels is needed")
        if not np.isfinite(map_).all():
            raise ValueError(f"seeded_watershed: {name} holds values that are not finite")
    if mask_prob.shape != border_prob.shape:
        raise ValueError(f"seeded_watershed: border_prob has shape {border_prob.shape}, mask_prob {mask_prob.shape}")

    inside = mask_prob - border_prob
    mask = mask_prob > mask_threshold
    seeds = drop_small(connected_components((inside > seed_threshold) & mask), min_seed)

    components = connected_components(mask)
    has_seed = np.zeros(components.max() + 1, dtype=bool)
    has_seed[components[seeds > 0]] = True
    without_seed = mask & ~has_seed[components]
    seeds[without_seed] = components[without_seed] + seeds.max()  # new numbers; drop_small closes the gaps

    labels = watershed(-inside, seeds, mask=mask, connectivity=2)
    _fill_holes(labels)
    return drop_small(labels, min_size)


# --- numbers ------------------------------------------------------------------------------------------------


def _areas(labels: np.ndarray) -> np.ndarray:
    """The number of pixels of each nucleus, by ascending label. A large image is counted in strips, to spare memory."""
    strips = (labels[top : top + STRIP] for top in range(0, len(labels), STRIP))
    numbers, counts = zip(*(np.unique(strip[strip > 0], return_counts=True) for strip in strips))
    _, places = np.unique(np.concatenate(numbers), return_inverse=True)
    return np.bincount(places, np.concatenate(counts)).astype(np.int64)


def median_diameter(labels: np.ndarray, area_weighted: bool = False) -> float:
    """Median equivalent diameter in pixels: the diameter 2 sqrt(area / pi) of a circle with the nucleus's area.

    area_weighted: weight every nucleus by its area, so that half of the nuclear *pixels*, not half of the nuclei, lie
    in smaller nuclei. Specks in a poor segmentation then hardly change the median. labels: integers (H, W). Returns NaN
    if there are no nuclei.
    """
    labels = check_labels("median_diameter", "labels", labels)
    areas = np.sort(_areas(labels))
    if areas.size == 0:
        return float("nan")
    if area_weighted:
        below = np.cumsum(areas)
        median_area = areas[np.searchsorted(below, below[-1] / 2)]
    else:
        median_area = np.median(areas)
    return float(2 * np.sqrt(median_area / np.pi))


# --- files --------------------------------------------------------------------------------------------------


def encode_runs(labels: np.ndarray) -> list[str]:
    """Kaggle's run-length encoding: "start length start length ..." for each nucleus, by ascending label.

    Pixels are counted from 1, down the first column, then down the second, and so on.
    labels: integers (H, W).
    """
    flat = check_labels("encode_runs", "labels", labels).ravel(order="F")
    # A run starts at the first pixel and at every change of the label.
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    lengths = np.diff(np.append(starts, flat.size))
    runs: dict[int, list[str]] = {}
    for label, start, length in zip(flat[starts].tolist(), starts.tolist(), lengths.tolist(), strict=True):
        if label:
            runs.setdefault(label, []).append(f"{start + 1} {length}")
    return [" ".join(runs[label]) for label in sorted(runs)]


def decode_runs(runs: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """The label image of `encode_runs`' strings: the first string becomes nucleus 1, and so on. int32 (H, W).

    Some published masks overlap by a pixel or two; the earlier nucleus keeps such a pixel. An empty string is no
    nucleus. Raises ValueError for runs that are not pairs of whole numbers or that leave the image.
    """
    height, width = shape
    flat = np.zeros(height * width, dtype=np.int32)
    for number, text in enumerate((text for text in runs if text.strip()), start=1):
        try:
            starts, lengths = np.array(text.split(), dtype=np.int64).reshape(-1, 2).T
        except ValueError:
            raise ValueError(f"decode_runs: run {number} is not pairs of whole numbers: {text[:40]!r}") from None
        if starts.min() < 1 or lengths.min() < 1 or (starts + lengths - 1).max() > flat.size:
            raise ValueError(f"decode_runs: run {number} leaves an image of {height} x {width} pixels: {text[:40]!r}")
        for start, length in zip(starts - 1, lengths, strict=True):
            run = flat[start : start + length]
            run[run == 0] = number
    return flat.reshape(shape, order="F")


def write_submission(path: str | os.PathLike, predictions: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write Kaggle's submission file: columns ImageId, EncodedPixels; one row for each nucleus.

    predictions: (image id, label image) pairs. An image without nuclei gets one row with an empty second column, so
    that every image is present. The file appears only when it is complete.
    """
    with table_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(("ImageId", "EncodedPixels"))
        for image_id, labels in predictions:
            writer.writerows((image_id, runs) for runs in encode_runs(labels) or [""])


def write_measurements(
    path: str | os.PathLike, measured: Iterable[tuple[str, Sequence[dict]]], columns: Sequence[str]
) -> None:
    """Write a CSV table with one row for each nucleus: the image's name, then the columns.

    measured: (image name, result of `measure`) pairs, of which one is in memory at a time. columns: keys of the dicts.
    A cell is empty if a dict lacks its key, for instance because its image lacks a channel. Floats are rounded to seven
    digits. The file appears only when it is complete.
    """
    with table_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(("image", *columns))
        for name, rows in measured:
            for row in rows:
                values = (row.get(key, "") for key in columns)
                writer.writerow((name, *(f"{v:.7g}" if isinstance(v, float) else v for v in values)))
