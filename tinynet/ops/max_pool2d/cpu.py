"""max_pool2d in Numba: parallel over rows, vectorised over channels."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..conv2d.geometry import Pair, output_size
from ..jit import jit


def forward(
    x: np.ndarray,
    *,
    size: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(y, indices): the largest value of each window and where it was; NaN is larger than any number.

    Of equal values the first in row-major order is taken. `out` is a pair of arrays for y and indices.
    """
    shape = (len(x), *output_size(x.shape[1:3], size, stride, padding, (1, 1)), x.shape[3])
    y, indices = (np.empty(shape, x.dtype), np.empty(shape, np.int32)) if out is None else out
    _forward(np.ascontiguousarray(x), *size, *stride, *padding, y, indices)
    return y, indices


def scatter(g: np.ndarray, indices: np.ndarray, *, size: Pair, out: np.ndarray | None = None) -> np.ndarray:
    """Add each g[n, oy, ox, c] to pixel indices[n, oy, ox, c] of channel c of image n; zeros elsewhere.

    size: (H, W) of the result (N, H, W, C). The indices must lie in that plane: they are not checked here.
    """
    total = np.empty((len(g), *size, g.shape[3]), g.dtype) if out is None else out
    _scatter(np.ascontiguousarray(g), np.ascontiguousarray(indices), total)
    return total


def gather(x: np.ndarray, indices: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y[n, oy, ox, c] = pixel indices[n, oy, ox, c] of channel c of image n of x."""
    y = np.empty(indices.shape, x.dtype) if out is None else out
    _gather(np.ascontiguousarray(x), np.ascontiguousarray(indices), y)
    return y


@jit(parallel=True)
def _forward(x, size_y, size_x, stride_y, stride_x, padding_y, padding_x, y, indices):
    n_images, height, width, channels = x.shape
    _, out_height, out_width, _ = y.shape
    for row in prange(n_images * out_height):
        n, oy = row // out_height, row % out_height
        top = oy * stride_y - padding_y
        first_y, last_y = max(top, 0), min(top + size_y, height)
        for ox in range(out_width):
            left = ox * stride_x - padding_x
            first_x, last_x = max(left, 0), min(left + size_x, width)
            best, where = y[n, oy, ox], indices[n, oy, ox]
            for c in range(channels):
                best[c] = x[n, first_y, first_x, c]
                where[c] = first_y * width + first_x
            # The channels are the innermost loop, because they lie side by side in memory: the compiler
            # compares 8 or 16 of them at once. That needs a choice between values instead of a jump.
            for iy in range(first_y, last_y):
                for ix in range(first_x, last_x):
                    here = np.int32(iy * width + ix)
                    pixel = x[n, iy, ix]
                    for c in range(channels):
                        first_nan = (pixel[c] != pixel[c]) & (best[c] == best[c])
                        better = (pixel[c] > best[c]) | first_nan  # `>`, not `>=`: a tie goes to the first
                        best[c] = pixel[c] if better else best[c]
                        where[c] = here if better else where[c]


@jit(parallel=True)
def _scatter(g, indices, total):
    n_images, out_height, out_width, channels = g.shape
    width = total.shape[2]
    # Whole images, not rows, go to the threads: windows of two rows may meet in one pixel, and the indices given
    # to max_unpool2d may point anywhere. So no two threads add to one number, and the order is always the same.
    for n in prange(n_images):
        plane = total[n]
        plane[...] = 0
        for oy in range(out_height):
            for ox in range(out_width):
                for c in range(channels):
                    i = indices[n, oy, ox, c]
                    plane[i // width, i % width, c] += g[n, oy, ox, c]


@jit(parallel=True)
def _gather(x, indices, y):
    n_images, out_height, out_width, channels = indices.shape
    width = x.shape[2]
    for row in prange(n_images * out_height):
        n, oy = row // out_height, row % out_height
        for ox in range(out_width):
            for c in range(channels):
                i = indices[n, oy, ox, c]
                y[n, oy, ox, c] = x[n, i // width, i % width, c]
