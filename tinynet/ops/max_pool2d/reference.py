"""max_pool2d by its definition: obvious loops, right in any floating-point dtype. The other tiers must agree.

x (N, H, W, C), y (N, OH, OW, C). indices, of the shape of y, int32, says where each maximum was found:
iy * W + ix. What the letters mean and where the formulas come from: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from ..conv2d.geometry import Pair, output_size


@kernel
def forward(
    x: np.ndarray,
    *,
    size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
) -> tuple[np.ndarray, np.ndarray]:
    """(y, indices): the largest value of each window and where it was; NaN is larger than any number.

    Of equal values the first in row-major order is taken.
    """
    n_images, height, width, channels = x.shape
    shape = (n_images, *output_size((height, width), size, stride, padding, (1, 1)), channels)
    indices = np.empty(shape, np.int32)
    for oy in range(shape[1]):
        for ox in range(shape[2]):
            # Padding counts as minus infinity, so leaving it out of the window changes nothing.
            top, left = oy * stride[0] - padding[0], ox * stride[1] - padding[1]
            first_y, first_x = max(top, 0), max(left, 0)
            window = x[:, first_y : top + size[0], first_x : left + size[1], :]
            rows, columns = window.shape[1:3]
            # argmax has the properties wanted: it returns the first of equal values and takes NaN for the largest.
            k = window.reshape(n_images, rows * columns, channels).argmax(axis=1)
            indices[:, oy, ox, :] = (first_y + k // columns) * width + (first_x + k % columns)
    return gather.definition(x, indices), indices


@kernel
def scatter(g: np.ndarray, indices: np.ndarray, *, size: Pair, cell: Pair | None = None) -> np.ndarray:
    """Add each g[n, oy, ox, c] to pixel indices[n, oy, ox, c] of channel c of image n; zeros elsewhere.

    size: (H, W) of the result (N, H, W, C). Raises IndexError for an index outside that plane.
    cell: a promise that changes nothing here: that each index lies in its own cell of so many rows and columns.
    """
    n_images, channels = g.shape[0], g.shape[3]
    total = np.zeros((n_images, size[0] * size[1], channels), g.dtype)
    for n in range(n_images):
        for c in range(channels):
            # Windows may overlap: np.add.at adds twice where an index stands twice, `total[...] += g` would not.
            np.add.at(total[n, :, c], indices[n, :, :, c], g[n, :, :, c])
    return total.reshape(n_images, *size, channels)


@kernel
def gather(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """y[n, oy, ox, c] = pixel indices[n, oy, ox, c] of channel c of image n of x."""
    n_images, height, width, channels = x.shape
    _, out_height, out_width, _ = indices.shape
    pixels = x.reshape(n_images, height * width, channels)
    found = np.take_along_axis(pixels, indices.reshape(n_images, out_height * out_width, channels), axis=1)
    return found.reshape(indices.shape)
