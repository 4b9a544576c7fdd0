"""max_pool2d in Numba: parallel over rows, vectorized over channels."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import VECTOR_BYTES
from .._shared.geometry import Geometry, Pair
from .lanes import largest_of_four, largest_of_one, largest_of_vector, placed_four, placed_one, placed_vector


def forward(x: np.ndarray, kernel_size: Pair, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """(y, indices): the largest value of each window and where it was; NaN is larger than any number.

    Of equal values the first in row-major order is taken.
    """
    shape = (len(x), *geometry.output_size(x.shape[1:3], kernel_size), x.shape[3])
    y, indices = memory.empty(shape, x.dtype), memory.empty(shape, np.int32)
    _forward(_with_contiguous_pixels(x), kernel_size, geometry.stride, geometry.padding, y, indices)
    return y, indices


def scatter(g: np.ndarray, indices: np.ndarray, *, size: Pair, cell: Pair | None = None) -> np.ndarray:
    """Add each g[n, oy, ox, c] to pixel indices[n, oy, ox, c] of channel c of image n; zeros elsewhere.

    size: (H, W) of the result (N, H, W, C). The indices must lie in that plane: they are not checked here.
    cell: None, or a promise that each index lies in its own cell of so many rows and columns of the plane.
    """
    total, indices = memory.empty((len(g), *size, g.shape[3]), g.dtype), np.ascontiguousarray(indices)
    if cell is None:
        _scatter(np.ascontiguousarray(g), indices, total)
    else:
        _scatter_cells(_with_contiguous_pixels(g), indices, cell, total)
    return total


def gather(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """y[n, oy, ox, c] = pixel indices[n, oy, ox, c] of channel c of image n of x."""
    y = memory.empty(indices.shape, x.dtype)
    _gather(np.ascontiguousarray(x), np.ascontiguousarray(indices), y)
    return y


def _with_contiguous_pixels(x: np.ndarray) -> np.ndarray:
    """x itself if the channels of a pixel are neighbors in memory, as in a channel slice; otherwise a copy."""
    return x if x.strides[3] == x.itemsize else np.ascontiguousarray(x)


# The channels are taken a vector at a time. If their number is not a multiple of a vector, the last vector starts early
# and overlaps the one before: some elements are computed twice. Fewer channels are taken by fours, or else one by one.


@jit(inline="always")
def _channels_at_a_time(row):
    channels, lanes = row.shape[-1], VECTOR_BYTES // row.itemsize
    return lanes if channels >= lanes else 4 if channels >= 4 else 1


@jit(separate=True)
def _forward_row(image, kernel_size, stride, padding, oy, maxima, places):
    """Row oy of the results for one image."""
    height, width, channels = image.shape
    step, top = _channels_at_a_time(image), oy * stride[0] - padding[0]
    for ox in range(len(maxima)):
        left = ox * stride[1] - padding[1]
        window = max(top, 0), min(top + kernel_size[0], height), max(left, 0), min(left + kernel_size[1], width)
        for c in range(0, channels, step):
            c = min(c, channels - step)
            if step == 1:
                largest_of_one(image, window, maxima, places, ox, c)
            elif step == 4:
                largest_of_four(image, window, maxima, places, ox, c)
            else:
                largest_of_vector(image, window, maxima, places, ox, c)


@jit(parallel=True)
def _forward(x, kernel_size, stride, padding, y, indices):
    for line in prange(len(y) * y.shape[1]):
        n, oy = divmod(np.int64(line), y.shape[1])
        _forward_row(x[n], kernel_size, stride, padding, oy, y[n, oy], indices[n, oy])


@jit(separate=True)
def _scatter_cells_to_row(values, places, width, iy, row):
    """row = row iy of the result: at each pixel the value of its cell, if that came from here, or 0.

    values, places: the row of g and of the indices whose cells cover this row. width: of a cell.
    """
    covered, channels = min(len(values) * width, len(row)), row.shape[1]
    row[covered:] = 0  # columns that do not fill a cell belong to none
    step = _channels_at_a_time(row)
    for ix in range(covered):
        at, here = (ix // width, ix), iy * len(row) + ix
        for c in range(0, channels, step):
            c = min(c, channels - step)
            if step == 1:
                placed_one(values, places, row, at, c, here)
            elif step == 4:
                placed_four(values, places, row, at, c, here)
            else:
                placed_vector(values, places, row, at, c, here)


@jit(parallel=True)
def _scatter_cells(g, indices, cell, total):
    """Every pixel is written once: with the value of its cell, or 0. So different threads may take different rows."""
    height = total.shape[1]
    for line in prange(len(total) * height):
        n, iy = divmod(np.int64(line), height)
        oy = iy // cell[0]
        if oy < g.shape[1]:
            _scatter_cells_to_row(g[n, oy], indices[n, oy], cell[1], iy, total[n, iy])
        else:
            total[n, iy] = 0  # rows that do not fill a cell belong to none


@jit(parallel=True)
def _scatter(g, indices, total):
    n_images, out_height, out_width, channels = g.shape
    width = total.shape[2]
    # Whole images, not rows, go to the threads: windows of two rows may meet in one pixel, and the indices given
    # to max_unpool2d may point anywhere. So no two threads add to the same element, and the order is always the same.
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
