"""The gradient of conv2d's bias in Numba: the same for all implementations."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from ...backends.out import delivered
from .._cpu.old_simd import REGISTER_BYTES, block_1x1, lanes_of
from .._shared.layout import rows_of


def backward_bias(gy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    if not REGISTER_BYTES:  # no multiply-add in hardware, which the register block would call for
        return delivered(np.sum(gy, axis=(0, 1, 2), dtype=np.float64).astype(gy.dtype), out)
    channels = gy.shape[3]
    threads = numba.get_num_threads()
    sums = np.zeros((threads, channels), gy.dtype)
    _backward_bias(*rows_of(gy, channels), gy.size // max(channels, 1), channels, sums, lanes_of(gy.dtype))
    return np.sum(sums, axis=0, out=out)


@jit(parallel=True)
def _backward_bias(gy, pitch, pixels, channels, sums, lanes):
    threads = len(sums)
    one, zeros = np.ones(1, gy.dtype), np.zeros(lanes, gy.dtype)
    chunk = 1024  # pixels added up in registers, before they are added to the total: less rounding error
    for thread in prange(threads):
        total = sums[thread]
        end = (thread + 1) * pixels // threads
        for p in range(thread * pixels // threads, end, chunk):
            count = min(chunk, end - p)
            whole = channels // lanes * lanes
            for c in range(0, whole, lanes):
                block_1x1(one, 0, 0, 0, 0, gy, p * pitch + c, pitch, 0, count, 1, zeros, 0, total, c, 0, 1)
            for c in range(whole, channels):
                part = zeros[0]
                for q in range(p, p + count):
                    part += gy[q * pitch + c]
                total[c] += part
