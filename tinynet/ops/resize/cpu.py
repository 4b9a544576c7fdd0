"""resize in Numba: parallel over the rows of the result, vectorized along the rows.

If the axis that changes is the last but a few channels, a row (j, b) of B elements is too short for vectors. Then the
lanes are the outputs j of several rows: where each element of a row (m B) comes from is written into tables, and a
"gather" instruction reads an input for each lane.
"""

from __future__ import annotations

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import lanes_of
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import run_count, run_of
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


@jit(separate=True, fastmath=ELEMENTWISE)
def _gather_run(run, x, sources, shares, y):
    """y[a, e] = sum over the terms t of shares[t, e] x[a, sources[t, e]]; a share of 0 leaves its term out."""
    zero, (first, end) = x.dtype.type(0), run_of(run, *y.shape)
    for a in range(first, end):
        row, source = y[a], x[a]
        for e in range(len(row)):
            row[e] = zero
        for t in range(len(sources)):
            indices, factors = sources[t], shares[t]
            for e in range(len(row)):
                row[e] += factors[e] * source[indices[e]] if factors[e] != zero else zero


@jit
def _gather(x, sources, shares, y):
    in_parallel(_gather_run, run_count(*y.shape), (x, sources, shares, y))


# ------------------------------------------------------------------------------------- rows of a vector and more
# A task is a run of neighboring rows (a, j), of one or more a. Two loops count a and j, because a division for each row
# would take as long as a short row. The indices are unsigned: for signed ones, Numba would test whether they count from
# the end.
@jit
def _part_of(a, m, first, end):
    """(first, end) of the j whose rows a m + j are in a run."""
    return max(first, a * m) - a * m, min(end - a * m, m)


@jit(separate=True, fastmath=ELEMENTWISE)
def _forward_run(run, x, lower, fraction, y):
    m, size = U(y.shape[1]), U(y.shape[2])
    first, end = run_of(run, y.shape[0] * y.shape[1], size)
    for a in range(first // m, (end + m - U(1)) // m):
        first_j, end_j = _part_of(a, m, first, end)
        for j in range(first_j, end_j):
            f, rest, i = fraction[j], 1 - fraction[j], U(lower[j])
            if f == 0:  # also at the end of the axis, where there is no i + 1
                for b in range(size):
                    y[a, j, b] = x[a, i, b]
            else:
                for b in range(size):
                    y[a, j, b] = rest * x[a, i, b] + f * x[a, i + U(1), b]


@jit
def _forward(x, lower, fraction, y):
    in_parallel(_forward_run, run_count(y.shape[0] * y.shape[1], y.shape[2]), (x, lower, fraction, y))


@jit(separate=True, fastmath=ELEMENTWISE)
def _backward_run(run, gy, lower, fraction, starts, gx):
    """Every input reads the outputs that it went into."""
    n, size = U(gx.shape[1]), U(gx.shape[2])
    first, end = run_of(run, gx.shape[0] * gx.shape[1], size)
    for a in range(first // n, (end + n - U(1)) // n):
        first_i, end_i = _part_of(a, n, first, end)
        for i in range(first_i, end_i):
            for b in range(size):
                gx[a, i, b] = 0
            for j in range(U(starts[i]), U(starts[i + U(2)])):
                share = (1 - fraction[j]) if U(lower[j]) == i else fraction[j]
                for b in range(size):
                    gx[a, i, b] += share * gy[a, j, b]


@jit
def _backward(gy, lower, fraction, starts, gx):
    in_parallel(_backward_run, run_count(gx.shape[0] * gx.shape[1], gx.shape[2]), (gy, lower, fraction, starts, gx))
