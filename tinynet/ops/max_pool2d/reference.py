"""max_pool2d by its definition: obvious loops, right in any floating-point dtype. The other tiers must agree.

x (N, H, W, C), y (N, OH, OW, C). indices, of the shape of y, int32, says where each maximum was found:
iy * W + ix. kernel_size: (KH, KW) of a window. geometry: stride and padding. What the letters mean and where the
formulas come from: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .._shared.geometry import Geometry, Pair


@kernel
def forward(x: np.ndarray, kernel_size: Pair, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """(y, indices): the largest value of each window and where it was; NaN is larger than any number.

    Of equal values the first in row-major order is taken.
    """
    n_images, height, width, channels = x.shape
    (sy, sx), (py, px) = geometry.stride, geometry.padding
    out_height, out_width = geometry.output_size((height, width), kernel_size)
    indices = np.empty((n_images, out_height, out_width, channels), np.int32)
    for oy in range(out_height):
        for ox in range(out_width):
            # Padding counts as minus infinity, so leaving it out of the window changes nothing.
            top, left = oy * sy - py, ox * sx - px
            first_y, first_x = max(top, 0), max(left, 0)
            window = x[:, first_y : top + kernel_size[0], first_x : left + kernel_size[1], :]
            rows, columns = window.shape[1:3]
            # argmax has both properties: it returns the first of equal values and takes NaN for the largest.
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
