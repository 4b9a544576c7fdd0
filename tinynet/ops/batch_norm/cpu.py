"""Batch normalization in Numba: parallel over runs of rows, vectorized over channels; sums are float64.

The runs depend on the sizes only and their sums are added in order: the same bits for any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._cpu.elementwise import RANGE
from .._cpu.fastmath import ELEMENTWISE

Pair = tuple[np.ndarray, np.ndarray]


def statistics(x: np.ndarray) -> Pair:
    """(mean, var) of each channel; the variance is the mean square distance from the mean. The sums are float64."""
    rows = _rows(x)
    m, zeros = len(rows), np.zeros(rows.shape[1])
    partial = _partial(rows)
    _sums(rows, _run_length(rows), partial)
    mean = partial.sum(axis=0) / m if m else zeros / 0
    _squares(rows, mean, _run_length(rows), partial)
    var = partial.sum(axis=0) / m if m else zeros / 0
    return mean.astype(x.dtype), var.astype(x.dtype)


def normalize(
    x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> np.ndarray:
    """y = gamma (x - mean) / sqrt(var + eps) + beta."""
    y = memory.empty(x.shape, x.dtype)
    rows = _rows(x)
    scale = gamma * _inverse(var, eps)
    _normalize(rows, *map(np.ascontiguousarray, (mean, scale, beta)), _run_length(rows), _rows(y))
    return y


def backward_parameters(gy: np.ndarray, x: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float) -> Pair:
    """(ggamma, gbeta): the sums of gy u and of gy over all but the channels, u = (x - mean) / sqrt(var + eps)."""
    rows = _rows(x)
    with_u, alone = _partial(rows), _partial(rows)
    _parameter_sums(_rows(gy), rows, np.ascontiguousarray(mean), _run_length(rows), with_u, alone)
    ggamma, gbeta = with_u.sum(axis=0) * _inverse(var, eps), alone.sum(axis=0)
    return ggamma.astype(x.dtype), gbeta.astype(x.dtype)


def backward_input(
    gy: np.ndarray, x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, parameters: Pair, eps: float
) -> np.ndarray:
    """gx = gamma r (gy - gbeta / m - u ggamma / m), where mean and var are those of x itself.

    parameters: (ggamma, gbeta), as `backward_parameters` returns them.
    """
    ggamma, gbeta = parameters
    gx = memory.empty(x.shape, x.dtype)
    rows = _rows(x)
    r, m = _inverse(var, eps), x.dtype.type(max(len(rows), 1))
    per_channel = map(np.ascontiguousarray, (mean, gamma * r, gbeta / m, r * ggamma / m))
    _backward_input(_rows(gy), rows, *per_channel, _rows(gx))
    return gx


def _rows(x: np.ndarray) -> np.ndarray:
    """x as (rows, channels), contiguous."""
    return np.ascontiguousarray(x).reshape(x.size // max(x.shape[-1], 1), x.shape[-1])


def _run_length(rows: np.ndarray) -> int:
    """How many rows a thread takes at a time."""
    return max(1, RANGE // max(rows.shape[1], 1))


def _partial(rows: np.ndarray) -> np.ndarray:
    """An array for the sums of each run."""
    return np.empty((-(-len(rows) // _run_length(rows)), rows.shape[1]))


def _inverse(var: np.ndarray, eps: float) -> np.ndarray:
    """r, in the dtype of var."""
    return 1 / np.sqrt(var + var.dtype.type(eps))


@jit(parallel=True, fastmath=ELEMENTWISE)
def _sums(x, length, partial):
    rows, channels = x.shape
    for run in prange(len(partial)):
        total = partial[run]
        total[:] = 0
        for i in range(run * length, min((run + 1) * length, rows)):
            row = x[i]
            for c in range(channels):
                total[c] += np.float64(row[c])


@jit(parallel=True, fastmath=ELEMENTWISE)
def _squares(x, mean, length, partial):
    """The sums of squares about the mean, which is float64."""
    rows, channels = x.shape
    for run in prange(len(partial)):
        total = partial[run]
        total[:] = 0
        for i in range(run * length, min((run + 1) * length, rows)):
            row = x[i]
            for c in range(channels):
                d = np.float64(row[c]) - mean[c]
                total[c] += d * d


@jit(parallel=True, fastmath=ELEMENTWISE)
def _parameter_sums(gy, x, mean, length, with_u, alone):
    """The sums of gy (x - mean), which is gy u but for a factor, and of gy."""
    rows, channels = x.shape
    for run in prange(len(alone)):
        product, total = with_u[run], alone[run]
        product[:] = 0
        total[:] = 0
        for i in range(run * length, min((run + 1) * length, rows)):
            row, g = x[i], gy[i]
            for c in range(channels):
                product[c] += np.float64(g[c] * (row[c] - mean[c]))
                total[c] += np.float64(g[c])


@jit(parallel=True, fastmath=ELEMENTWISE)
def _normalize(x, mean, scale, beta, length, y):
    rows, channels = x.shape
    for run in prange((rows + length - 1) // length):
        for i in range(run * length, min((run + 1) * length, rows)):
            row, result = x[i], y[i]
            for c in range(channels):
                result[c] = (row[c] - mean[c]) * scale[c] + beta[c]


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward_input(gy, x, mean, scale, mean_g, slope, gx):
    """scale: gamma r. mean_g: gbeta / m. slope: r ggamma / m, the factor of x - mean."""
    rows, channels = x.shape
    length = max(1, RANGE // max(channels, 1))
    for run in prange((rows + length - 1) // length):
        for i in range(run * length, min((run + 1) * length, rows)):
            row, g, result = x[i], gy[i], gx[i]
            for c in range(channels):
                result[c] = scale[c] * (g[c] - mean_g[c] - (row[c] - mean[c]) * slope[c])
