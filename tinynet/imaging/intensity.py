"""The intensity of an image: its gray levels, and the normalization that the nets are trained on."""

import math

import numpy as np

from .checks import check_maps

STRIP = 256  # rows that are counted at once


def gray(image: np.ndarray) -> np.ndarray:
    """The mean of R, G and B: (H, W, 3) to (H, W) float32."""
    red, green, blue = np.moveaxis(image, 2, 0)  # adding whole planes is ten times as fast as .mean(axis=2)
    return (red.astype(np.float32) + green + blue) / 3


def normalize(image: np.ndarray) -> np.ndarray:
    """Bring an image to a dark background and a common contrast. Normalize whole images, never crops or tiles.

    Bright images (gray median above 127) are inverted. Then one linear function scales all three channels: it maps the
    1st percentile of gray to 0 and the 99.7th to 1. The result is clipped to [-0.5, 2].

    `image` (H, W, 3), uint8 or float in [0, 255]; returns (H, W, 3) float32.
    Raises `ValueError` on another shape, an image without pixels, NaN or infinity.
    """
    return apply_normalization(image, *normalization(image))


def apply_normalization(image: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """An image or a part of it, normalized by what `normalization` found in the whole image: (H, W, 3) float32."""
    return np.clip(image.astype(np.float32) * slope + offset, -0.5, 2.0)


def normalization(image: np.ndarray) -> tuple[float, float]:
    """(slope, offset) of the linear function in `normalize`, so that a crop can be scaled like its whole image."""
    check_maps("normalize", "image", image, (3,))
    if image.dtype == np.uint8:
        levels, counts = _gray_levels(image)
    else:
        levels, counts = np.unique(gray(image), return_counts=True)
    inverted = _percentile(levels, counts, 50) > 127
    if inverted:
        levels, counts = (255 - levels)[::-1], counts[::-1]
    low, high = (_percentile(levels, counts, percent) for percent in (1, 99.7))
    slope = 1 / max(high - low, 1.0)  # at most 1, so that the rounding noise of a flat image is not amplified
    return (-slope, (255 - low) * slope) if inverted else (slope, -low * slope)


def _gray_levels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the gray levels that R, G and B of 8 bits can have, how many pixels have each), without a copy of the image."""
    counts = np.zeros(3 * 255 + 1, np.int64)
    for top in range(0, len(image), STRIP):
        red, green, blue = np.moveaxis(image[top : top + STRIP], 2, 0)
        counts += np.bincount((red.astype(np.int64) + green + blue).ravel(), minlength=len(counts))
    return np.arange(len(counts), dtype=np.float32) / 3, counts


def _percentile(levels: np.ndarray, counts: np.ndarray, percent: float) -> float:
    """`np.percentile` of an image in which each of the ascending `levels` occurs `counts` times."""
    up_to = np.cumsum(counts)
    place = percent / 100 * (int(up_to[-1]) - 1)  # between two pixels of the sorted image
    ranks = (math.floor(place), math.ceil(place))
    below, above = (float(levels[np.searchsorted(up_to, rank, side="right")]) for rank in ranks)
    return below + (above - below) * (place - ranks[0])
