"""resize in Numba: parallel over the rows of the result, vectorized along the rows."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._cpu.parts import whole
from .positions import positions


def forward(x: np.ndarray, size: int, mode: str) -> np.ndarray:
    """y (A, size, B): y[a, j, b] = (1 - f) x[a, i, b] + f x[a, i + 1, b] with i = lower[j], f = fraction[j]."""
    lower, fraction, _ = positions(x.shape[1], size, mode)
    y = memory.empty((x.shape[0], size, x.shape[2]), x.dtype)
    _forward(whole(x), lower, fraction.astype(x.dtype), y)
    return y


def backward(gy: np.ndarray, size: int, mode: str) -> np.ndarray:
    """gx (A, size, B): each output gives its gradient to its two inputs, in the same shares."""
    lower, fraction, starts = positions(size, gy.shape[1], mode)
    gx = memory.empty((gy.shape[0], size, gy.shape[2]), gy.dtype)
    _backward(whole(gy), lower, fraction.astype(gy.dtype), starts, gx)
    return gx


@jit(parallel=True)
def _forward(x, lower, fraction, y):
    m = y.shape[1]
    for row in prange(y.shape[0] * m):
        a, j = row // m, row % m
        f, rest = fraction[j], 1 - fraction[j]
        first, result = x[a, lower[j]], y[a, j]
        if f == 0:
            for b in range(len(result)):
                result[b] = first[b]
        else:
            second = x[a, lower[j] + 1]
            for b in range(len(result)):
                result[b] = rest * first[b] + f * second[b]


@jit(parallel=True)
def _backward(gy, lower, fraction, starts, gx):
    """Every input reads the outputs that it went into."""
    n = gx.shape[1]
    for row in prange(gx.shape[0] * n):
        a, i = row // n, row % n
        result = gx[a, i]
        result[:] = 0
        for j in range(starts[i], starts[i + 2]):
            share, source = (1 - fraction[j]) if lower[j] == i else fraction[j], gy[a, j]
            for b in range(len(result)):
                result[b] += share * source[b]
