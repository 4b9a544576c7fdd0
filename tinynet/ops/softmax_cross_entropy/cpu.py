"""Softmax cross-entropy in Numba: row by row, in parallel over fixed chunks of rows."""

from __future__ import annotations

import math

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import run
from .._cpu.fastmath import ELEMENTWISE, exp_of_nonpositive
from .._cpu.reduction import CHUNK, chunk_count
from .formula import total_weight


def forward(x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None) -> np.ndarray:
    """L = (1/W) sum over rows of w_t [log(sum_k exp(x_k - m)) - (x_t - m)], shape (), dtype of x."""
    classes = x.shape[-1]
    rows = np.ascontiguousarray(x).reshape(-1, classes)
    weights = np.ones(classes, x.dtype) if w is None else np.ascontiguousarray(w)
    partial = np.empty(chunk_count(len(rows)))
    _sums(rows, np.ascontiguousarray(t).reshape(-1), weights, partial)
    return np.asarray(partial.sum() / total_weight(t, w)).astype(x.dtype)


def backward(gy: np.ndarray, x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None) -> np.ndarray:
    """gx = gy (w_t / W) (p_c - [c = t]), of the shape and dtype of x."""
    classes = x.shape[-1]
    factor = np.broadcast_to(gy / total_weight(t, w) * (1 if w is None else w), (classes,))
    return run(_backward, (x, t, factor.astype(x.dtype)), ())


@jit(separate=True, fastmath=ELEMENTWISE)
def _sum_chunk(chunk, x, t, w, partial):
    """The weighted sum of the losses of a chunk of rows, in float64."""
    rows, classes = x.shape
    total = 0.0
    for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, rows)):
        m = _maximum(x[r])
        s = x.dtype.type(0)
        for c in range(classes):
            s += exp_of_nonpositive(x[r, c] - m)
        total += np.float64(w[t[r]] * (math.log(s) - (x[r, t[r]] - m)))
    partial[chunk] = total


@jit
def _sums(x, t, w, partial):
    in_parallel(_sum_chunk, partial.size, (x, t, w, partial))


@jit(separate=True, fastmath=ELEMENTWISE)
def _backward_chunk(chunk, x, t, factor, gx):
    """On flat arrays: row r is x[r * classes : (r + 1) * classes]; factor (classes,) is gy w_c / W."""
    classes, rows = factor.size, max(1, CHUNK // factor.size)
    for r in range(chunk * rows, min((chunk + 1) * rows, t.size)):
        row = x[r * classes : (r + 1) * classes]
        result = gx[r * classes : (r + 1) * classes]
        m = _maximum(row)
        s = x.dtype.type(0)
        for c in range(classes):
            result[c] = exp_of_nonpositive(row[c] - m)
            s += result[c]
        scale = factor[t[r]] / s
        for c in range(classes):
            result[c] *= scale
        result[t[r]] -= factor[t[r]]


@jit
def _backward(x, t, factor, gx):
    rows = max(1, CHUNK // factor.size)
    in_parallel(_backward_chunk, (t.size + rows - 1) // rows, (x, t, factor, gx))


@jit(inline="always")
def _maximum(row):
    """The largest element. A NaN need not win: it makes the sum of exponentials NaN in any case."""
    m = row[0]
    for c in range(1, row.size):
        m = max(m, row[c])
    return m
