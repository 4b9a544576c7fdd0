"""The gradient of conv2d's bias in Numba: a sum over pixels, the same for all versions."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange
from numpy.lib.stride_tricks import as_strided

from ...backends.numba.jit import jit
from ...backends.numba.simd import lanes_of, register_block
from .._shared.layout import rows_of

CHUNK = 1024  # pixels added up in a register before their sum is added to the total: less rounding error

one_row = register_block(1, 1)


def backward_bias(gy: np.ndarray) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    channels = gy.shape[3]
    sums = np.zeros((numba.get_num_threads(), 1, channels), gy.dtype)
    flat, pitch = rows_of(gy, channels)
    ones, pixels = np.ones((1, CHUNK), gy.dtype), gy.size // max(channels, 1)
    _add_pixels(flat, pitch, pixels, ones, sums, lanes_of(gy.dtype))
    return sums.sum(axis=(0, 1))


@jit(separate=True)
def _add_share(gy, ones, total, lanes):
    """total (1, C) += the sum of gy (pixels, C): a row of ones times gy, for as many channels as fill vectors."""
    pixels, channels = gy.shape
    whole = channels // lanes * lanes
    for first in range(0, pixels, CHUNK):
        part = gy[first : first + CHUNK]
        for c in range(0, whole, lanes):
            sum_of_vector = total[:, c : c + lanes]
            one_row(ones, part[:, c : c + lanes], sum_of_vector, sum_of_vector, 0)
        for c in range(whole, channels):
            for p in range(len(part)):
                total[0, c] += part[p, c]


@jit(parallel=True)
def _add_pixels(flat, pitch, pixels, ones, sums, lanes):
    """sums[thread] = the sum of the thread's share of the pixels. flat, pitch: see `rows_of`."""
    threads, _, channels = sums.shape
    for i in prange(threads):
        thread = np.int64(i)  # signed: prange may give an unsigned index
        gy = as_strided(flat, (pixels, channels), (pitch * flat.itemsize, flat.itemsize))
        _add_share(gy[thread * pixels // threads : (thread + 1) * pixels // threads], ones, sums[thread], lanes)
