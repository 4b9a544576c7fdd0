"""max_pool2d in Numba: parallel over rows, vectorized over channels."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import VECTOR_BYTES, lanes_of
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.elementwise import threads_for
from .._shared.geometry import Geometry, Pair
from .lanes import largest_of_four, largest_of_one, largest_of_vector, placed_four, placed_one, placed_vector


def forward(x: np.ndarray, kernel_size: Pair, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """(y, indices): the largest value of each window and where it was; NaN is larger than any number.

    Of equal values the first in row-major order is taken.
    """
    shape = (len(x), *geometry.output_size(x.shape[1:3], kernel_size), x.shape[3])
    y, indices = memory.empty(shape, x.dtype), memory.empty(shape, np.int32)
    windows = kernel_size, geometry.stride, geometry.padding
    _loops_for(x).forward(threads_for(x.size), _with_contiguous_pixels(x), windows, y, indices)
    return y, indices


def scatter(g: np.ndarray, indices: np.ndarray, *, size: Pair, cell: Pair | None = None) -> np.ndarray:
    """Add each g[n, oy, ox, c] to pixel indices[n, oy, ox, c] of channel c of image n; zeros elsewhere.

    size: (H, W) of the result (N, H, W, C). The indices must lie in that plane: they are not checked here.
    cell: None, or a promise that each index lies in its own cell of so many rows and columns of the plane.
    """
    total, indices = memory.empty((len(g), *size, g.shape[3]), g.dtype), np.ascontiguousarray(indices)
    if cell is None:
        _scatter(threads_for(total.size), np.ascontiguousarray(g), indices, total)
    else:
        _loops_for(g).scatter(threads_for(total.size), _with_contiguous_pixels(g), indices, cell, total)
    return total


def gather(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """y[n, oy, ox, c] = pixel indices[n, oy, ox, c] of channel c of image n of x."""
    y = memory.empty(indices.shape, x.dtype)
    _gather(threads_for(y.size), np.ascontiguousarray(x), np.ascontiguousarray(indices), y)
    return y


def _with_contiguous_pixels(x: np.ndarray) -> np.ndarray:
    """x itself if the channels of a pixel are neighbors in memory, as in a channel slice; otherwise a copy."""
    return x if x.strides[3] == x.itemsize else np.ascontiguousarray(x)


# If the number of channels is not a multiple of a vector, the last vector starts early and overlaps the one before:
# some elements are computed twice. Fewer channels than a vector has are taken by fours, or else one by one.


def _step_of(lanes: int) -> Callable:
    """The number of channels that are taken at a time; for lanes = 0, as many as fit into a vector."""

    @jit(inline="always")
    def step_of(array):
        return lanes if lanes else VECTOR_BYTES // array.itemsize

    return step_of


def _forward_by(largest: Callable, lanes: int) -> Callable:
    """The loops of `forward`, with vectors of so many channels."""
    step_of = _step_of(lanes)

    @jit(separate=True)
    def forward_row(image, windows, oy, maxima, places):
        """Row oy of the results for one image."""
        (kh, kw), (sy, sx), (py, px) = windows
        height, width, channels = image.shape
        step, top, left = step_of(image), oy * sy - py, -px
        first, end = max(top, 0), min(top + kh, height)
        if kh == 2 and kw == 2 and end - first == 2 and left >= 0 and (len(maxima) - 1) * sx - px + 2 <= width:
            for ox in range(len(maxima)):  # the compiler knows the size of these windows, and that is twice as fast
                for c in range(0, channels, step):
                    c = min(c, channels - step)
                    largest(image, (top, top + 2, left, left + 2), maxima, places, ox, c)
                left += sx
        else:
            for ox in range(len(maxima)):
                window = first, end, max(left, 0), min(left + kw, width)
                for c in range(0, channels, step):
                    largest(image, window, maxima, places, ox, min(c, channels - step))
                left += sx

    @jit(separate=True)
    def forward_share(thread, threads, x, windows, y, indices):
        lines = len(y) * y.shape[1]
        first, end = share_of(thread, threads, lines)
        for line in range(first, end):
            n, oy = divmod(line, y.shape[1])
            forward_row(x[n], windows, oy, y[n, oy], indices[n, oy])

    @jit
    def forward(threads, x, windows, y, indices):
        in_parallel(forward_share, threads, (threads, x, windows, y, indices))

    return forward


def _scatter_by(placed: Callable, lanes: int) -> Callable:
    """The loops of `scatter` into cells, with vectors of so many channels."""
    step_of = _step_of(lanes)

    @jit(separate=True)
    def scatter_row(values, places, width, iy, row):
        """row = row iy of the result: at each pixel the value of its cell, if that came from here, or 0.

        values, places: the row of g and of the indices whose cells cover this row. width: of a cell.
        """
        covered, channels, step = min(len(values) * width, len(row)), row.shape[1], step_of(row)
        row[covered:] = 0  # columns that do not fill a cell belong to none
        for ox in range(len(values)):
            for ix in range(ox * width, min((ox + 1) * width, covered)):
                for c in range(0, channels, step):
                    placed(values, places, row, (ox, ix), min(c, channels - step), iy * len(row) + ix)

    @jit(separate=True)
    def scatter_share(thread, threads, g, indices, cell, total):
        height = total.shape[1]
        lines = len(total) * height
        first, end = share_of(thread, threads, lines)
        for line in range(first, end):
            n, iy = divmod(line, height)
            oy = iy // cell[0]
            if oy < g.shape[1]:
                scatter_row(g[n, oy], indices[n, oy], cell[1], iy, total[n, iy])
            else:
                total[n, iy] = 0  # rows that do not fill a cell belong to none

    @jit
    def scatter(threads, g, indices, cell, total):
        """Each pixel is written once, with the value of its cell or 0: so different threads may take different rows."""
        in_parallel(scatter_share, threads, (threads, g, indices, cell, total))

    return scatter


VECTORS = SimpleNamespace(forward=_forward_by(largest_of_vector, 0), scatter=_scatter_by(placed_vector, 0))
FOURS = SimpleNamespace(forward=_forward_by(largest_of_four, 4), scatter=_scatter_by(placed_four, 4))
ONES = SimpleNamespace(forward=_forward_by(largest_of_one, 1), scatter=_scatter_by(placed_one, 1))


def _loops_for(x: np.ndarray) -> SimpleNamespace:
    """Those with the largest vectors that are not larger than a pixel."""
    channels = x.shape[3]
    return VECTORS if channels >= lanes_of(x.dtype) else FOURS if channels >= 4 else ONES


@jit(inline="always")
def _pixels(image):
    """The image (H, W, C), which is contiguous, as (H W, C): an index is a row of it."""
    return image.reshape(image.shape[0] * image.shape[1], image.shape[2])


@jit(separate=True)
def _scatter_image(g, indices, total):
    """total (H W, C) = the sums of g (OH OW, C) at the indices."""
    total[:] = 0
    for p in range(len(g)):
        for c in range(g.shape[1]):
            total[indices[p, c], c] += g[p, c]


@jit(separate=True)
def _scatter_share(thread, threads, g, indices, total):
    """Whole images, not rows: windows of two rows may meet in one pixel, and the indices given to max_unpool2d may
    point anywhere. So no two threads add to the same element, and the order is always the same."""
    first, end = share_of(thread, threads, len(g))
    for n in range(first, end):
        _scatter_image(_pixels(g[n]), _pixels(indices[n]), _pixels(total[n]))


@jit
def _scatter(threads, g, indices, total):
    in_parallel(_scatter_share, threads, (threads, g, indices, total))


@jit(separate=True)
def _gather_share(thread, threads, x, indices, y):
    first, end = share_of(thread, threads, len(y) * y.shape[1])
    for line in range(first, end):
        n, oy = divmod(line, y.shape[1])
        image, places, row = _pixels(x[n]), indices[n, oy], y[n, oy]
        for ox in range(len(row)):
            for c in range(row.shape[1]):
                row[ox, c] = image[places[ox, c], c]


@jit
def _gather(threads, x, indices, y):
    in_parallel(_gather_share, threads, (threads, x, indices, y))
