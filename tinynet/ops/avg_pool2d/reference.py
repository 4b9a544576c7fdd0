"""avg_pool2d by its definition: obvious loops, right in any floating-point dtype. The other tiers must agree.

x (N, H, W, C), y (N, OH, OW, C). What the letters mean and where the formulas come from: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from ..conv2d.geometry import Pair, output_size


@kernel
def forward(x: np.ndarray, *, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """y = the mean of each window; padding counts as zeros."""
    n_images, height, width, channels = x.shape
    out_size = output_size((height, width), size, stride, padding, (1, 1))
    y = np.empty((n_images, *out_size, channels), x.dtype)
    for oy in range(out_size[0]):
        for ox in range(out_size[1]):
            rows, columns = _window(oy, ox, size, stride, padding)
            y[:, oy, ox, :] = x[:, rows, columns, :].sum(axis=(1, 2)) / (size[0] * size[1])
    return y


@kernel
def backward(gy: np.ndarray, *, plane: Pair, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """gx: each window gives every one of its pixels the same share of its gradient. plane: (H, W) of gx."""
    n_images, out_height, out_width, channels = gy.shape
    gx = np.zeros((n_images, *plane, channels), gy.dtype)
    for oy in range(out_height):
        for ox in range(out_width):
            rows, columns = _window(oy, ox, size, stride, padding)
            gx[:, rows, columns, :] += gy[:, oy : oy + 1, ox : ox + 1, :] / (size[0] * size[1])
    return gx


def _window(oy: int, ox: int, size: Pair, stride: Pair, padding: Pair) -> tuple[slice, slice]:
    """The rows and columns of a window, without those in the padding: adding zeros would change nothing."""
    top, left = oy * stride[0] - padding[0], ox * stride[1] - padding[1]
    return slice(max(top, 0), top + size[0]), slice(max(left, 0), left + size[1])
