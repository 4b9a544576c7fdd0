"""Local response normalization in Numba: parallel over pixels, vectorized over channels."""

from __future__ import annotations

import math

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import run_count, run_of
from .._cpu.fastmath import ELEMENTWISE


def forward(x: np.ndarray, *, size: int, k: float, alpha: float, beta: float) -> np.ndarray:
    """y_c = x_c s_c^-beta with s_c = k + alpha sum of x_j^2 over the `size` channels around c. x (..., C)."""
    y = memory.empty(x.shape, x.dtype)
    _forward(_pixels(x), size // 2, tuple(map(x.dtype.type, (k, alpha, beta))), _pixels(y))
    return y


def backward(gy: np.ndarray, x: np.ndarray, *, size: int, k: float, alpha: float, beta: float) -> np.ndarray:
    """gx_i = gy_i s_i^-beta - 2 alpha beta x_i sum of gy_c x_c s_c^(-beta - 1) over the channels around i."""
    gx = memory.empty(x.shape, x.dtype)
    _backward(_pixels(gy), _pixels(x), size // 2, tuple(map(x.dtype.type, (k, alpha, beta))), _pixels(gx))
    return gx


def _pixels(x: np.ndarray) -> np.ndarray:
    """x as (pixels, channels), contiguous."""
    return np.ascontiguousarray(x).reshape(x.size // max(x.shape[-1], 1), x.shape[-1])


@jit(separate=True, fastmath=ELEMENTWISE)
def _forward_run(run, x, half, constants, y):
    k, alpha, beta = constants
    s, power = np.empty_like(x[0]), np.empty_like(x[0])
    first, end = run_of(run, *x.shape)
    for p in range(first, end):
        row, result = x[p], y[p]
        _scales(row, half, k, alpha, s)
        _powers(s, beta, power)
        for c in range(len(row)):
            result[c] = row[c] * power[c]


@jit
def _forward(x, half, constants, y):
    in_parallel(_forward_run, run_count(*x.shape), (x, half, constants, y))


@jit(separate=True, fastmath=ELEMENTWISE)
def _backward_run(run, gy, x, half, constants, gx):
    k, alpha, beta = constants
    s, power, t = np.empty_like(x[0]), np.empty_like(x[0]), np.empty_like(x[0])
    factor = x.dtype.type(2) * alpha * beta
    first, end = run_of(run, *x.shape)
    for p in range(first, end):
        row, g, result = x[p], gy[p], gx[p]
        _scales(row, half, k, alpha, s)
        _powers(s, beta, power)
        for c in range(len(row)):
            t[c] = g[c] * row[c] * power[c] / s[c]
        s[:] = 0
        _add_window(t, half, s)  # s is done with, and takes the sum
        for c in range(len(row)):
            result[c] = g[c] * power[c] - factor * row[c] * s[c]


@jit
def _backward(gy, x, half, constants, gx):
    in_parallel(_backward_run, run_count(*x.shape), (gy, x, half, constants, gx))


@jit(fastmath=ELEMENTWISE)
def _scales(row, half, k, alpha, s):
    """s_c = k + alpha sum of row_j^2."""
    squares = row * row
    s[:] = 0
    _add_window(squares, half, s)
    for c in range(s.size):
        s[c] = k + alpha * s[c]


@jit(fastmath=ELEMENTWISE)
def _add_window(values, half, total):
    """total_c += the sum of values_j over |j - c| <= half, one distance d = j - c after the other."""
    channels = values.size
    for d in range(-min(half, channels - 1), min(half, channels - 1) + 1):
        first, last = max(0, -d), min(channels, channels - d)
        moved, target = values[first + d : last + d], total[first:last]
        for c in range(target.size):
            target[c] += moved[c]


@jit(fastmath=ELEMENTWISE)
def _powers(s, beta, power):
    """s^-beta; for AlexNet's beta = 3/4 by square roots, which are instructions."""
    one = s.dtype.type(1)
    if beta == s.dtype.type(0.75):
        for c in range(s.size):
            root = math.sqrt(s[c])
            power[c] = one / (root * math.sqrt(root))
    else:
        for c in range(s.size):
            power[c] = s[c] ** -beta
