"""Dropout in Numba: ranges of the flat array in parallel; in each, random words are drawn first and then compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from .._cpu.elementwise import RANGE, range_count, run
from .._cpu.philox import draw_words
from .._cpu.prefetch import LINE, prefetch

U = np.uint64
CHUNK = 1024  # elements whose words are drawn before they are used: few enough to stay in the fastest cache


class Mask(NamedTuple):
    """Which elements are kept, and the factor for them, in the types that the loops need."""

    scale: np.floating  # of the dtype of the elements
    threshold: np.uint64
    seed: np.uint64
    stream: np.uint64
    step: np.uint64

    @classmethod
    def of(cls, p: float, seed: int, stream: int, step: int, dtype: np.dtype) -> Mask:
        return cls(dtype.type(1 / (1 - p)), U(round(p * 2**32)), U(seed), U(stream), U(step))


def forward(x: np.ndarray, *, p: float, seed: int, stream: int, step: int) -> np.ndarray:
    """y[i] = x[i] / (1 - p) where the word of element i is at least p 2^32, else 0; any shape."""
    return run(_forward, (x,), (Mask.of(p, seed, stream, step, x.dtype),))


@jit(parallel=True)
def _forward(x, mask, y):
    for r in prange(range_count(x.size)):
        forward_range(x, r * RANGE, min((r + 1) * RANGE, x.size), mask, y)


@jit(inline="always")
def forward_range(x, start, stop, mask, y):
    """Elements start .. stop - 1: what one thread does, also for kernels that do more than dropout.

    x and y are flat and contiguous, of one dtype, and may be the same array. Why the function is inlined and its
    indices are unsigned: elu/cpu.py.
    """
    zero = x.dtype.type(0)
    words = np.empty(CHUNK, np.uint32)
    first, last = U(start), U(stop)
    while first < last:
        # Four elements share a counter block. A range may start within one: it is drawn whole.
        drawn = first & ~U(3)
        end = min(drawn + U(CHUNK), last)
        for i in range(first + U(CHUNK), min(end + U(CHUNK), U(x.size)), U(LINE)):
            prefetch(x, i)
        draw_words(drawn >> U(2), mask.step, mask.seed, mask.stream, words[: (end - drawn + U(3)) & ~U(3)])
        for i in range(first, end):
            y[i] = x[i] * mask.scale if words[i - drawn] >= mask.threshold else zero
        first = end
