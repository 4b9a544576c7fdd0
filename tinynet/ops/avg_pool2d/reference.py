"""avg_pool2d by its definition: obvious loops, right in any floating-point dtype. The other tiers must agree.

x (N, H, W, C), y (N, OH, OW, C). kernel_size: (KH, KW) of a window. geometry: stride and padding. What the letters mean
and where the formulas come from: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .._shared.geometry import Geometry, Pair


@kernel
def forward(x: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """y = the mean of each window; padding counts as zeros."""
    n_images, height, width, channels = x.shape
    out_height, out_width = geometry.output_size((height, width), kernel_size)
    y = np.empty((n_images, out_height, out_width, channels), x.dtype)
    for oy in range(out_height):
        for ox in range(out_width):
            rows, columns = _window(oy, ox, kernel_size, geometry)
            y[:, oy, ox, :] = x[:, rows, columns, :].sum(axis=(1, 2)) / (kernel_size[0] * kernel_size[1])
    return y


@kernel
def backward(gy: np.ndarray, input_size: Pair, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx: each window gives every one of its pixels the same share of its gradient. input_size: (H, W) of gx."""
    n_images, out_height, out_width, channels = gy.shape
    gx = np.zeros((n_images, *input_size, channels), gy.dtype)
    for oy in range(out_height):
        for ox in range(out_width):
            rows, columns = _window(oy, ox, kernel_size, geometry)
            gx[:, rows, columns, :] += gy[:, oy : oy + 1, ox : ox + 1, :] / (kernel_size[0] * kernel_size[1])
    return gx


def _window(oy: int, ox: int, kernel_size: Pair, geometry: Geometry) -> tuple[slice, slice]:
    """The rows and columns of a window, without those in the padding: adding zeros would change nothing."""
    (sy, sx), (py, px) = geometry.stride, geometry.padding
    top, left = oy * sy - py, ox * sx - px
    return slice(max(top, 0), top + kernel_size[0]), slice(max(left, 0), left + kernel_size[1])
