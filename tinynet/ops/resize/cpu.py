"""resize in Numba: parallel over the rows of the result, vectorized along the rows.

If the axis that changes is the last but a few channels, a row (j, b) of B elements is too short for vectors. Then the
lanes are the outputs j of several rows: where each element of a row (m B) comes from is written into tables, and a
"gather" instruction reads an input for each lane.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import lanes_of
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.parts import whole
from .positions import Positions, positions


def forward(x: np.ndarray, size: int, mode: str) -> np.ndarray:
    """y (A, size, B): y[a, j, b] = (1 - f) x[a, i, b] + f x[a, i + 1, b] with i = lower[j], f = fraction[j]."""
    places = positions(x.shape[1], size, mode)
    y, fraction = memory.empty((x.shape[0], size, x.shape[2]), x.dtype), places.fraction.astype(x.dtype)
    if x.shape[2] < lanes_of(x.dtype):
        inputs = np.stack([places.lower, np.minimum(places.lower + 1, x.shape[1] - 1)])
        _gather(_flat(whole(x)), *_elements(inputs, np.stack([1 - fraction, fraction]), x.shape[2]), _flat(y))
    else:
        _forward(whole(x), places.lower, fraction, y)
    return y


def backward(gy: np.ndarray, size: int, mode: str) -> np.ndarray:
    """gx (A, size, B): each output gives its gradient to its two inputs, in the same shares."""
    places = positions(size, gy.shape[1], mode)
    gx = memory.empty((gy.shape[0], size, gy.shape[2]), gy.dtype)
    if gy.shape[2] < lanes_of(gy.dtype):
        _gather(_flat(whole(gy)), *_elements(*_outputs_of(places, size, gy.dtype), gy.shape[2]), _flat(gx))
    else:
        _backward(whole(gy), places.lower, places.fraction.astype(gy.dtype), places.starts, gx)
    return gx


# ------------------------------------------------------------------------------------- short rows
def _flat(x: np.ndarray) -> np.ndarray:
    """(A, n B) of (A, n, B)."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2])


def _outputs_of(places: Positions, size: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """(outputs, shares), both (most outputs of an input, size): what each input gets from which output."""
    most = int((places.starts[2:] - places.starts[:-2]).max())
    j = places.starts[:size] + np.arange(most)[:, None]
    exists = j < places.starts[2:]
    j = np.where(exists, j, 0)
    shares = np.where(places.lower[j] == np.arange(size), 1 - places.fraction[j], places.fraction[j])
    return j, np.where(exists, shares, 0).astype(dtype)


def _elements(sources: np.ndarray, shares: np.ndarray, b: int) -> tuple[np.ndarray, np.ndarray]:
    """The tables (terms, m) for rows of m b elements. uint32, because a signed index might count from the end."""
    elements = sources[:, :, None] * b + np.arange(b)
    return elements.reshape(len(sources), -1).astype(np.uint32), np.repeat(shares, b, axis=1)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _gather(x, sources, shares, y):
    """y[a, e] = sum over the terms t of shares[t, e] x[a, sources[t, e]]; a share of 0 leaves its term out."""
    zero = x.dtype.type(0)
    for a in prange(len(y)):
        row, source = y[a], x[a]
        row[:] = zero
        for t in range(len(sources)):
            indices, factors = sources[t], shares[t]
            for e in range(len(row)):
                row[e] += factors[e] * source[indices[e]] if factors[e] != zero else zero


# ------------------------------------------------------------------------------------- rows of a vector and more
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
