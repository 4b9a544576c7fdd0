"""Any image as 8-bit RGB, which the nets see."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from .limits import check_values


def to_rgb8(image: np.ndarray, where: str = "image") -> np.ndarray:
    """Any image as (H, W, 3) uint8.

    Gray is repeated three times; alpha is dropped. 8-bit values do not change. Deeper values (16-bit integers, floats)
    are scaled linearly: the minimum becomes 0 and the brightest patch of 2 x 2 pixels 255, so that a hot pixel of a
    camera does not compress the image into a few gray levels. Neither does a bright speck: 255 is at most 32 times as
    far from the minimum as the 99.9th percentile. All channels have the same scale, so colors keep their balance.

    `image`: (H, W) or (H, W, C) with C = 1 gray, 2 gray + alpha, 3 RGB or 4 RGBA; bool, integer or float.
    `where` names the file in errors. Raises `DataError` on other shapes, an empty image, NaN or infinity.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4 or image.size == 0:
        raise DataError(f"{where}: shape {image.shape}; need (H, W) or (H, W, C) with 1 to 4 channels")
    colors = image[:, :, :3] if image.shape[2] >= 3 else image[:, :, :1]
    if colors.dtype == bool:
        colors = colors.astype(np.uint8) * 255
    elif colors.dtype != np.uint8:
        colors = _scale_to_8_bits(colors, where)
    return np.ascontiguousarray(np.broadcast_to(colors, (*colors.shape[:2], 3)))


def _scale_to_8_bits(values: np.ndarray, where: str) -> np.ndarray:
    check_values(values, where)
    low, typical = float(values.min()), float(np.percentile(values, 99.9))
    high = max(typical, min(_brightest_patch(values), low + 32 * (typical - low)))
    if high <= low:  # nearly flat: the percentile equals the minimum
        high = max(_brightest_patch(values), low + 1)
    scaled = np.empty(values.shape, np.uint8)
    for row, result in zip(values, scaled):  # row by row: a whole image in float64 would need 4 times its memory
        result[:] = np.clip(np.rint((row.astype(np.float64) - low) * (255 / (high - low))), 0, 255)
    return scaled


def _brightest_patch(values: np.ndarray) -> float:
    """The highest value that a whole patch of 2 x 2 pixels reaches; single hot pixels do not count."""
    wide = np.minimum(values[1:], values[:-1]) if values.shape[0] > 1 else values
    return float((np.minimum(wide[:, 1:], wide[:, :-1]) if values.shape[1] > 1 else wide).max())
