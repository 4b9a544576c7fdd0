"""The gradient of conv2d's bias in Numba: a sum over pixels, the same for all versions."""

from __future__ import annotations

import math

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.simd import lanes_of, register_block
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.elementwise import threads_for
from .._cpu.strided import strided
from .._shared.layout import rows_of

CHUNK = 1024  # pixels added up before their sum is added to the total: less rounding error

one_row = register_block(1, 1)


def backward_bias(gy: np.ndarray) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    channels, lanes = max(gy.shape[3], 1), lanes_of(gy.dtype)
    pixels = gy.size // channels
    if pixels <= CHUNK:  # a batch of a Linear, above all: NumPy is done before other threads are awake
        return gy.sum(axis=(0, 1, 2))
    flat, pitch = rows_of(gy, channels)
    together = lanes // math.gcd(channels, lanes)  # so many pixels fill whole vectors with their channels
    if pitch > channels:
        return _sum_of_rows(flat, pitch, pixels, channels)
    rows, width = pixels // together, together * channels
    total = _sum_of_rows(flat, width, rows, width).reshape(together, channels).sum(axis=0)
    return total + flat[rows * width :].reshape(-1, channels).sum(axis=0)


def _sum_of_rows(flat: np.ndarray, pitch: int, rows: int, width: int) -> np.ndarray:
    """The sum of rows that begin `pitch` elements apart."""
    sums = np.zeros((threads_for(rows * width), 1, width), flat.dtype)
    _add_pixels(flat, pitch, rows, np.ones((1, CHUNK), flat.dtype), sums, lanes_of(flat.dtype))
    return sums.sum(axis=(0, 1))


@jit(separate=True)
def _add_share(thread, flat, pitch, all_pixels, ones, sums, lanes):
    """sums[thread] (1, C) += the sum of a share of the pixels: a row of ones times gy, where channels fill vectors."""
    (threads, _, channels), total = sums.shape, sums[thread]
    first, last = share_of(thread, threads, all_pixels)
    gy = strided(flat, (all_pixels, channels), (pitch * flat.itemsize, flat.itemsize))[first:last]
    pixels = last - first
    whole = channels // lanes * lanes
    for first in range(0, pixels, CHUNK):
        part = gy[first : first + CHUNK]
        for c in range(0, whole, lanes):
            sum_of_vector = total[:, c : c + lanes]
            one_row(ones, part[:, c : c + lanes], sum_of_vector, sum_of_vector, 0)
        for c in range(whole, channels):
            for p in range(len(part)):
                total[0, c] += part[p, c]


@jit
def _add_pixels(flat, pitch, pixels, ones, sums, lanes):
    """sums[thread] = the sum of the thread's share of the pixels. flat, pitch: see `rows_of`."""
    in_parallel(_add_share, len(sums), (flat, pitch, pixels, ones, sums, lanes))
