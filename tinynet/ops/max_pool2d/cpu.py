"""max_pool2d in Numba: parallel over rows, vectorised over channels."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._cpu.old_simd import lanes_of
from .._shared.layout import rows_of
from ..conv2d.geometry import Pair, output_size
from .lanes import largest_of_one, largest_of_vector, placed_one, placed_vector


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
    shape = (len(x), *output_size(x.shape[1:3], size, stride, padding, (1, 1)), x.shape[3])
    y = memory.empty(shape, x.dtype)
    indices = memory.empty(shape, np.dtype(np.int32))
    if y.size:
        _forward(
            *rows_of(x, x.shape[3]), x.shape, size, stride, padding, lanes_of(x.dtype),
            y.reshape(-1), y.shape, indices.reshape(-1),
        )  # fmt: skip
    return y, indices


def scatter(g: np.ndarray, indices: np.ndarray, *, size: Pair, cell: Pair | None = None) -> np.ndarray:
    """Add each g[n, oy, ox, c] to pixel indices[n, oy, ox, c] of channel c of image n; zeros elsewhere.

    size: (H, W) of the result (N, H, W, C). The indices must lie in that plane: they are not checked here.
    cell: a promise, if given: that each index lies in its own cell of so many rows and columns of the plane.
    """
    total = memory.empty((len(g), *size, g.shape[3]), g.dtype)
    if cell is None:
        _scatter(np.ascontiguousarray(g), np.ascontiguousarray(indices), total)
    elif total.size:
        _scatter_cells(
            *rows_of(g, g.shape[3]), np.ascontiguousarray(indices).reshape(-1), g.shape, cell, lanes_of(g.dtype),
            total.reshape(-1), total.shape,
        )  # fmt: skip
    return total


def gather(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """y[n, oy, ox, c] = pixel indices[n, oy, ox, c] of channel c of image n of x."""
    y = memory.empty(indices.shape, x.dtype)
    _gather(np.ascontiguousarray(x), np.ascontiguousarray(indices), y)
    return y


# Channels are taken a vector at a time. Where they are no multiple of that, the last vector starts early and overlaps
# the one before: some numbers are computed twice. With fewer channels than a vector holds, they are taken one by one.


@jit(parallel=True)
def _forward(x, pitch, x_size, size, stride, padding, lanes, y, y_size, indices):
    _, height, width, channels = x_size
    n_images, out_height, out_width, _ = y_size
    step = lanes if channels >= lanes else 1
    for line in prange(n_images * out_height):
        n, oy = line // out_height, line % out_height
        top = oy * stride[0] - padding[0]
        first_y, last_y = max(top, 0), min(top + size[0], height)
        for ox in range(out_width):
            left = ox * stride[1] - padding[1]
            first_x, last_x = max(left, 0), min(left + size[1], width)
            first = first_y * width + first_x
            x0 = (n * height * width + first) * pitch
            y0 = (line * out_width + ox) * channels
            for c in range(0, channels, step):
                c = min(c, channels - step)
                window = (
                    x, x0 + c, last_y - first_y, last_x - first_x, width * pitch, pitch, first, width,
                    y, y0 + c, indices,
                )  # fmt: skip
                if step > 1:
                    largest_of_vector(*window)
                else:
                    largest_of_one(*window)


@jit(parallel=True)
def _scatter_cells(g, pitch, indices, g_size, cell, lanes, total, size):
    """Every pixel is written once: what its cell has for it, or 0. So rows may go to different threads."""
    n_images, out_height, out_width, channels = g_size
    _, height, width, _ = size
    step = lanes if channels >= lanes else 1
    zero = g.dtype.type(0)
    for line in prange(n_images * height):
        n, iy = line // height, line % height
        oy = iy // cell[0]
        covered = min(out_width * cell[1], width) if oy < out_height else 0
        for ix in range(covered):
            source = (n * out_height + oy) * out_width + ix // cell[1]
            for c in range(0, channels, step):
                c = min(c, channels - step)
                pixel = (
                    g, source * pitch + c, indices, source * channels + c, iy * width + ix,
                    total, (line * width + ix) * channels + c,
                )  # fmt: skip
                if step > 1:
                    placed_vector(*pixel)
                else:
                    placed_one(*pixel)
        # Rows and columns that did not fill a cell belong to none.
        for i in range((line * width + covered) * channels, (line + 1) * width * channels):
            total[i] = zero


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
