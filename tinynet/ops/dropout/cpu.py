"""Dropout in Numba: chunks in parallel; in each, the random words are drawn first and then compared."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..elementwise import run
from ..jit import jit
from ..philox import draw_words

U = np.uint64
CHUNK = 1024  # elements whose words are drawn before they are used: few enough to stay in the fastest cache


def forward(x: np.ndarray, *, p: float, seed: int, stream: int, step: int, out: np.ndarray | None = None) -> np.ndarray:
    """y[i] = x[i] / (1 - p) where the word of element i is at least p 2^32, else 0; any shape."""
    threshold = U(round(p * 2**32))
    return run(_forward, (x,), (1 / (1 - p), threshold, U(seed), U(stream), U(step)), out)


@jit(parallel=True)
def _forward(x, scale, threshold, seed, stream, step, y):
    zero = x.dtype.type(0)
    for chunk in prange((x.size + CHUNK - 1) // CHUNK):
        first = chunk * CHUNK
        words = np.empty(CHUNK, np.uint32)
        draw_words(first // 4, step, seed, stream, words)
        for i in range(min(CHUNK, x.size - first)):
            y[first + i] = x[first + i] * scale if words[i] >= threshold else zero
