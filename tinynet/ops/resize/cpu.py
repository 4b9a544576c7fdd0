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
from .._cpu.elementwise import rows_per_run
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.parts import whole
from .positions import Positions, positions

U = np.uint64


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
# A thread takes a run of neighboring rows (a, j) and counts on, because a division for each row would take as long as a
# short row. The indices are unsigned: for signed ones, Numba would test whether they count from the end.
@jit(parallel=True, fastmath=ELEMENTWISE)
def _forward(x, lower, fraction, y):
    m, size = U(y.shape[1]), U(y.shape[2])
    rows, run = U(y.shape[0]) * m, rows_per_run(size)
    for r in prange((rows + run - U(1)) // run):
        start = U(r) * run
        a, j = start // m, start % m
        for _ in range(start, min(start + run, rows)):
            f, rest, i = fraction[j], 1 - fraction[j], U(lower[j])
            if f == 0:  # also at the end of the axis, where there is no i + 1
                for b in range(size):
                    y[a, j, b] = x[a, i, b]
            else:
                for b in range(size):
                    y[a, j, b] = rest * x[a, i, b] + f * x[a, i + U(1), b]
            j += U(1)
            if j == m:
                a, j = a + U(1), U(0)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward(gy, lower, fraction, starts, gx):
    """Every input reads the outputs that it went into."""
    n, size = U(gx.shape[1]), U(gx.shape[2])
    rows, run = U(gx.shape[0]) * n, rows_per_run(size)
    for r in prange((rows + run - U(1)) // run):
        start = U(r) * run
        a, i = start // n, start % n
        for _ in range(start, min(start + run, rows)):
            for b in range(size):
                gx[a, i, b] = 0
            for j in range(U(starts[i]), U(starts[i + U(2)])):
                share = (1 - fraction[j]) if U(lower[j]) == i else fraction[j]
                for b in range(size):
                    gx[a, i, b] += share * gy[a, j, b]
            i += U(1)
            if i == n:
                a, i = a + U(1), U(0)
