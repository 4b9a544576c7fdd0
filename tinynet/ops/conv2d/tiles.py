"""Images cut into tiles: where each tile lies, and how its elements get from an image to a stack of matrices and back.

A *stack* is an array (position, row, column): one matrix for each of the n x n elements of a transformed tile. A
transform takes a tile of an image to row t of all matrices (`gather`) or back (`scatter`); the columns are channels.
Tiles at the border, and channels that do not fill a vector, take the same way through a *window*: a small image, padded
with zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from ...backends.numba.jit import jit
from ...backends.numba.simd import lanes_of
from .._cpu.prefetch import LINE, prefetch
from .epilogue import activate

LANES = lanes_of(np.float32)


class Grid(NamedTuple):
    """The tiles of all images, numbered row by row. The first tile of an image begins at pixel (top, left)."""

    rows: int
    columns: int
    top: int
    left: int


@jit
def stack(positions, rows, columns):
    """An uninitialized stack with a gap of one row between its matrices.

    Without the gap, the distance between two matrices would often be a power of two, and all positions of a tile would
    compete for the same few lines of a cache: backward_weight of 16 -> 16 channels then takes half as long again.
    """
    return aligned((positions, rows + 1, columns))[:, :rows]


@jit
def aligned(shape):
    """An uninitialized array that begins at a multiple of a vector's bytes: no vector of it lies in two cache lines."""
    size = shape[0] * shape[1] * shape[2]
    memory = np.empty(size + LANES, np.float32)
    start = -(memory.ctypes.data // 4) % LANES
    return memory[start : start + size].reshape(shape)


@njit(error_model="numpy")  # not @jit: Numba cannot use a generator that it read from the compile cache
def runs(first, count, grid):
    """Cut `count` tiles, from number `first` on, into runs of neighbors: yields (t, image, row, column, length).

    t is the number of the run's first tile, counted from `first`; (row, column) is its place in the image.
    """
    t = 0
    while t < count:
        strip, column = divmod(first + t, grid.columns)
        image, row = divmod(strip, grid.rows)
        length = min(grid.columns - column, count - t)
        yield t, image, row, column, length
        t += length


@jit
def copy_window(image, y, x, window):
    """window = the pixels from (y, x) on, with zeros outside of the image and in channels that do not exist."""
    height, width, channels = image.shape
    window[:] = 0
    for i in range(max(0, -y), min(window.shape[0], height - y)):
        for j in range(max(0, -x), min(window.shape[1], width - x)):
            for c in range(channels):
                window[i, j, c] = image[y + i, x + j, c]


@jit
def copy_back(window, image, y, x):
    """The part of the window that lies in the image."""
    height, width, channels = image.shape
    for i in range(min(window.shape[0], height - y)):
        for j in range(min(window.shape[1], width - x)):
            for c in range(channels):
                image[y + i, x + j, c] = window[i, j, c]


@jit(separate=True)
def prefetch_tiles(m, x, first, count, grid):
    """Ask for the m x m pixels of each of these tiles, some time before they are loaded (prefetch.py)."""
    _, height, width, channels = x.shape
    for _, image, row, column, length in runs(first, min(count, len(x) * grid.rows * grid.columns - first), grid):
        top, left = row * m + grid.top, column * m + grid.left
        start, end = max(0, left), min(width, left + length * m)
        for y in range(max(0, top), min(height, top + m)):
            first_pixel = (image * height + y) * width
            for i in range((first_pixel + start) * channels, (first_pixel + end) * channels, LINE):
                prefetch(x, i)


def tile_loader(transform: Callable, size: int, step: int) -> Callable:
    """load(x, first, count, grid, stack, window): tiles of size x size pixels, `step` apart, into a stack."""

    @jit(separate=True)
    def load(x, first, count, grid, stack, window):
        _, height, width, channels = x.shape
        for t, number, row, column, length in runs(first, count, grid):
            image, top = x[number], row * step + grid.top
            for i in range(length):
                left = (column + i) * step + grid.left
                is_inside = top >= 0 and left >= 0 and top + size <= height and left + size <= width
                if not is_inside or channels % LANES:
                    copy_window(image, top, left, window)
                    for c in range(0, channels, LANES):
                        transform(window, 0, 0, stack[:, t + i], c)
                else:
                    for c in range(0, channels, LANES):
                        transform(image, top, left, stack[:, t + i], c)

    return load


def tile_storer(transform: Callable, m: int) -> Callable:
    """store(stack, first, count, grid, y, bias, window): the way back, to tiles of m x m pixels of y, plus the bias."""

    @jit(separate=True)
    def store(stack, first, count, grid, y, bias, window):
        _, height, width, channels = y.shape
        for t, number, row, column, length in runs(first, count, grid):
            image, top = y[number], row * m
            for i in range(length):
                left = (column + i) * m
                if top + m > height or left + m > width or channels % LANES:
                    for c in range(0, channels, LANES):
                        transform(stack[:, t + i], window, 0, 0, c, bias)
                    copy_back(window, image, top, left)
                else:
                    for c in range(0, channels, LANES):
                        transform(stack[:, t + i], image, top, left, c, bias)

    return store


@jit(separate=True)
def activate_tiles(m, first, count, grid, y, activation):
    """Apply the activation to the outputs of those tiles: whole rows of neighboring pixels."""
    _, height, width, channels = y.shape
    flat = y.reshape(-1)
    for _, number, row, column, length in runs(first, count, grid):
        for oy in range(row * m, min(row * m + m, height)):
            start = (number * height + oy) * width
            ox, end = column * m, min((column + length) * m, width)
            activate(flat, (start + ox) * channels, (start + end) * channels, activation)
