"""Dropout in Numba: ranges of the flat array in parallel; in each, random words are drawn first and then compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import range_count, range_of, run
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
    first: np.uint64  # the number of the word for element 0

    @classmethod
    def of(cls, p: float, seed: int, stream: int, step: int, first: int, dtype: np.dtype) -> Mask:
        return cls(dtype.type(1 / (1 - p)), U(round(p * 2**32)), U(seed), U(stream), U(step), U(first))


def forward(x: np.ndarray, *, p: float, seed: int, stream: int, step: int, first: int = 0) -> np.ndarray:
    """y[i] = x[i] / (1 - p) where word number first + i is at least p 2^32, else 0; any shape."""
    return run(_forward, (x,), (Mask.of(p, seed, stream, step, first, x.dtype),))


@jit(inline="always")
def forward_range(x, start, stop, mask, y):
    """Elements start .. stop - 1: what one thread does, also for kernels that do more than dropout.

    x and y are flat and contiguous, of one dtype, and may be the same array. Why the function is inlined and its
    indices are unsigned: elu/cpu.py.
    """
    zero = x.dtype.type(0)
    words = np.empty(CHUNK, np.uint32)
    begin, last = U(start), U(stop)
    while begin < last:
        # Four elements share a counter block. A chunk may begin within one: it is drawn whole. If that block begins
        # before element 0, `drawn` is below 0, modulo 2^64.
        drawn = begin - ((mask.first + begin) & U(3))
        end = min(drawn + U(CHUNK), last)
        for i in range(begin + U(CHUNK), min(end + U(CHUNK), U(x.size)), U(LINE)):
            prefetch(x, i)
        count = (end - drawn + U(3)) & ~U(3)
        draw_words((mask.first + drawn) >> U(2), mask.step, mask.seed, mask.stream, words[:count])
        for i in range(begin, end):
            y[i] = x[i] * mask.scale if words[i - drawn] >= mask.threshold else zero
        begin = end


@jit(separate=True)
def _forward_task(r, x, mask, y):
    first, end = range_of(r, x.size)
    forward_range(x, first, end, mask, y)


@jit
def _forward(x, mask, y):
    in_parallel(_forward_task, range_count(x.size), (x, mask, y))
