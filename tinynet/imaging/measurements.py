"""Measurements of nuclei: shape, place and intensities, in pixels and micrometers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import perimeter_crofton
from skimage.morphology import convex_hull_image

from .checks import check_labels, check_same_size

MEASUREMENTS = (  # the shape and place of a nucleus; the intensities of its channels follow
    "area",
    "equivalent_diameter",
    "perimeter",
    "circularity",
    "eccentricity",
    "solidity",
    "centroid_y",
    "centroid_x",
    "top",
    "left",
    "bottom",
    "right",
    "touches_border",
)


def each_nucleus(labels: np.ndarray) -> Iterator[tuple[int, tuple[slice, slice], np.ndarray]]:
    """(number, box, mask) of each nucleus, by ascending number: its pixels are `labels[box][mask]`, the mask is bool.

    labels: integers (H, W). The memory does not depend on how many nuclei there are.
    """
    numbers: Sequence[int] | range = range(1, int(labels.max()) + 1)
    if len(numbers) > labels.size:  # find_objects makes a list up to the highest number
        found, places = np.unique(labels, return_inverse=True)
        numbers = found[found > 0].tolist()
        labels = places.reshape(labels.shape) + (found[0] > 0)
    for place, (number, box) in enumerate(zip(numbers, ndimage.find_objects(labels), strict=True), start=1):
        if box is not None:
            yield number, box, labels[box] == place


def measure(
    labels: np.ndarray, image: np.ndarray | Mapping[str, np.ndarray], pixel_size: float | None = None
) -> list[dict[str, Any]]:
    """Measure every nucleus: one dict each, in ascending order of `id`, all with the same keys in the same order.

    labels: integers (H, W). image: (H, W) gray or (H, W, 3), of any integer or float dtype, best as stored in the file;
    or the channels of an image by name, each (H, W). pixel_size: micrometers per pixel, if known.
    - area in pixels; equivalent_diameter 2 sqrt(area / pi): of the circle with the same area;
    - perimeter in pixels, by Crofton's formula (it counts how often straight lines cross the outline): for discs and
      ellipses 12 or more pixels across it is within 5 % of the true length. Counting outline pixels instead would make
      small nuclei too round;
    - circularity 4 pi area / perimeter^2: 1 for a disc, less for every other shape. Objects of few pixels can have an
      estimate above 1, which is cut to 1;
    - eccentricity of the ellipse with the same second moments: 0 for a circle, near 1 for a line;
    - solidity: area / area of the convex hull: 1 without dents;
    - centroid_y, centroid_x in pixels, where (0, 0) is the center of the top left pixel;
    - bounding box: rows top to bottom - 1, columns left to right - 1, as in `labels[top:bottom, left:right]`;
    - touches_border: 1 if the box reaches the border of the image, so that the nucleus may be cut, else 0;
    - with a pixel_size, area_um2, equivalent_diameter_um and perimeter_um;
    - mean_intensity, min_intensity, max_intensity, and integrated_intensity, their sum: gray values (the mean of R, G
      and B) in the units of `image`. For a dict, the same of every channel, with its name: mean_DAPI, min_DAPI, ...
    Raises ValueError for another shape or dtype, and for a pixel_size that is not positive.
    """
    labels = check_labels("measure", "labels", labels)
    if pixel_size is not None and not 0 < pixel_size < np.inf:
        raise ValueError(f"measure: pixel_size is {pixel_size}; micrometers per pixel (above 0), or None, are needed")
    rows = []
    for number, box, mask in each_nucleus(labels):
        row = {"id": number} | _measure_shape(mask, box, labels.shape)
        if pixel_size is not None:
            row["area_um2"] = row["area"] * pixel_size**2
            row |= {f"{name}_um": row[name] * pixel_size for name in ("equivalent_diameter", "perimeter")}
        rows.append(row)
    for name, channel in _channels(labels, image):  # one after the other: a mapping may read them from a file
        for row, (_, box, mask) in zip(rows, each_nucleus(labels), strict=True):
            row |= _measure_intensity(name, channel[box][mask])
    return rows


def _channels(labels: np.ndarray, image: np.ndarray | Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, gray values (H, W)) of each channel, after checking that it belongs to the labels."""
    channels = image.items() if isinstance(image, Mapping) else [("intensity", image)]
    for name, channel in channels:
        channel = np.asarray(channel)
        if channel.shape[2:] not in ((), (3,)) or channel.dtype.kind not in "biuf":
            raise ValueError(
                f"measure: image has shape {channel.shape} and dtype {channel.dtype}; numbers (H, W) or (H, W, 3), or "
                "a dict of them, are needed"
            )
        check_same_size("measure", labels, channel)
        if channel.dtype == bool:  # a table holds numbers, not True and False
            channel = channel.astype(np.uint8)
        yield name, channel.mean(axis=2) if channel.ndim == 3 else channel


def _measure_intensity(name: str, values: np.ndarray) -> dict[str, Any]:
    """The gray values (N,) of one nucleus in one channel."""
    total = values.sum(dtype=np.float64 if values.dtype.kind == "f" else None).item()
    return {
        f"mean_{name}": total / len(values),
        f"min_{name}": values.min().item(),
        f"max_{name}": values.max().item(),
        f"integrated_{name}": total,
    }


def _measure_shape(mask: np.ndarray, box: tuple[slice, slice], size: tuple[int, ...]) -> dict[str, Any]:
    """The shape and place of one nucleus, from its mask inside a box of an image of `size`."""
    top, bottom, left, right = box[0].start, box[0].stop, box[1].start, box[1].stop
    rows, columns = np.nonzero(mask)
    area, y, x = len(rows), rows.mean(), columns.mean()
    # The larger and the smaller eigenvalue of the covariance matrix: squared half axes of the ellipse, times a factor.
    yy, xx, xy = np.mean((rows - y) ** 2), np.mean((columns - x) ** 2), np.mean((rows - y) * (columns - x))
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    perimeter = float(perimeter_crofton(mask))
    values = (
        area,
        2 * math.sqrt(area / math.pi),
        perimeter,
        min(1.0, 4 * math.pi * area / perimeter**2),
        math.sqrt(2 * half / (middle + half)) if middle > 0 else 0.0,
        area / int(np.count_nonzero(convex_hull_image(mask))),
        top + float(y),
        left + float(x),
        top,
        left,
        bottom,
        right,
        int(top == 0 or left == 0 or bottom == size[0] or right == size[1]),
    )
    return dict(zip(MEASUREMENTS, values, strict=True))
