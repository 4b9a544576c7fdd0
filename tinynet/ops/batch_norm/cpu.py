"""Batch normalization in Numba: parallel over runs of rows, vectorized over channels; sums are float64.

The runs depend on the sizes only and their sums are added in order: the same bits for any number of threads.
"""

from __future__ import annotations

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import run_count, run_of
from .._cpu.fastmath import ELEMENTWISE

Pair = tuple[np.ndarray, np.ndarray]


def statistics(x: np.ndarray) -> Pair:
    """(mean, var) of each channel; the variance is the mean square distance from the mean. The sums are float64."""
    rows = _rows(x)
    m, zeros = len(rows), np.zeros(rows.shape[1])
    partial = _partial(rows)
    _sums(rows, partial)
    mean = partial.sum(axis=0) / m if m else zeros / 0
    _squares(rows, mean, partial)
    var = partial.sum(axis=0) / m if m else zeros / 0
    return mean.astype(x.dtype), var.astype(x.dtype)


def normalize(
    x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> np.ndarray:
    """y = gamma (x - mean) / sqrt(var + eps) + beta."""
    y = memory.empty(x.shape, x.dtype)
    rows = _rows(x)
    scale = gamma * _inverse(var, eps)
    _normalize(rows, *map(np.ascontiguousarray, (mean, scale, beta)), _rows(y))
    return y


def backward_parameters(gy: np.ndarray, x: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float) -> Pair:
    """(ggamma, gbeta): the sums of gy u and of gy over all but the channels, u = (x - mean) / sqrt(var + eps)."""
    rows = _rows(x)
    with_u, alone = _partial(rows), _partial(rows)
    _parameter_sums(_rows(gy), rows, np.ascontiguousarray(mean), with_u, alone)
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
    per_channel = tuple(map(np.ascontiguousarray, (mean, gamma * r, gbeta / m, r * ggamma / m)))
    _backward_input(_rows(gy), rows, per_channel, _rows(gx))
    return gx


def _rows(x: np.ndarray) -> np.ndarray:
    """x as (rows, channels), contiguous."""
    return np.ascontiguousarray(x).reshape(x.size // max(x.shape[-1], 1), x.shape[-1])


def _partial(rows: np.ndarray) -> np.ndarray:
    """An array for the sums of each run."""
    return np.empty((run_count(*rows.shape), rows.shape[1]))


def _inverse(var: np.ndarray, eps: float) -> np.ndarray:
    """r, in the dtype of var."""
    return 1 / np.sqrt(var + var.dtype.type(eps))


@jit(separate=True, fastmath=ELEMENTWISE)
def _sum_run(run, x, partial):
    total, (first, end) = partial[run], run_of(run, *x.shape)
    total[:] = 0
    for i in range(first, end):
        row = x[i]
        for c in range(len(total)):
            total[c] += np.float64(row[c])


@jit
def _sums(x, partial):
    in_parallel(_sum_run, len(partial), (x, partial))


@jit(separate=True, fastmath=ELEMENTWISE)
def _square_run(run, x, mean, partial):
    """The sums of squares about the mean, which is float64."""
    total, (first, end) = partial[run], run_of(run, *x.shape)
    total[:] = 0
    for i in range(first, end):
        row = x[i]
        for c in range(len(total)):
            d = np.float64(row[c]) - mean[c]
            total[c] += d * d


@jit
def _squares(x, mean, partial):
    in_parallel(_square_run, len(partial), (x, mean, partial))


@jit(separate=True, fastmath=ELEMENTWISE)
def _parameter_run(run, gy, x, mean, with_u, alone):
    """The sums of gy (x - mean), which is gy u but for a factor, and of gy."""
    product, total, (first, end) = with_u[run], alone[run], run_of(run, *x.shape)
    product[:] = 0
    total[:] = 0
    for i in range(first, end):
        row, g = x[i], gy[i]
        for c in range(len(total)):
            product[c] += np.float64(g[c] * (row[c] - mean[c]))
            total[c] += np.float64(g[c])


@jit
def _parameter_sums(gy, x, mean, with_u, alone):
    in_parallel(_parameter_run, len(alone), (gy, x, mean, with_u, alone))


@jit(separate=True, fastmath=ELEMENTWISE)
def _normalize_run(run, x, mean, scale, beta, y):
    first, end = run_of(run, *x.shape)
    for i in range(first, end):
        row, result = x[i], y[i]
        for c in range(len(row)):
            result[c] = (row[c] - mean[c]) * scale[c] + beta[c]


@jit
def _normalize(x, mean, scale, beta, y):
    in_parallel(_normalize_run, run_count(*x.shape), (x, mean, scale, beta, y))


@jit(separate=True, fastmath=ELEMENTWISE)
def _backward_run(run, gy, x, per_channel, gx):
    """per_channel: the mean of x; gamma r; gbeta / m, the mean of gy; r ggamma / m, the factor of x - mean."""
    (mean, scale, mean_g, slope), (first, end) = per_channel, run_of(run, *x.shape)
    for i in range(first, end):
        row, g, result = x[i], gy[i], gx[i]
        for c in range(len(row)):
            result[c] = scale[c] * (g[c] - mean_g[c] - (row[c] - mean[c]) * slope[c])


@jit
def _backward_input(gy, x, per_channel, gx):
    in_parallel(_backward_run, run_count(*x.shape), (gy, x, per_channel, gx))
