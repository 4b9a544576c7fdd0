"""ELU in Numba: loops over ranges of the flat arrays, the ranges in parallel."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from .._cpu.elementwise import RANGE, range_count, run
from .._cpu.fastmath import ELEMENTWISE, expm1_of_nonpositive

U = np.uint64


def forward(x: np.ndarray, *, alpha: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """y = x where x > 0, else alpha (exp(x) - 1); any shape."""
    return run(_forward, (x,), (alpha,), out)


def backward(gy: np.ndarray, y: np.ndarray, *, alpha: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy where y > 0, else gy (y + alpha)."""
    return run(_backward, (gy, y), (alpha,), out)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _forward(x, alpha, y):
    for r in prange(range_count(x.size)):
        forward_range(x, r * RANGE, min((r + 1) * RANGE, x.size), alpha, y)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward(gy, y, alpha, gx):
    for r in prange(range_count(y.size)):
        backward_range(gy, y, r * RANGE, min((r + 1) * RANGE, y.size), alpha, gx)


# What one thread does, also for kernels that do more than ELU: elements start .. stop - 1 of flat, contiguous arrays of
# one dtype, which may be the same array. They become part of the caller (inline), because the compiler then sees
# whether two arrays are the same; behind a call it would prepare for arrays that overlap anyhow, and not vectorise. The
# caller's `fastmath` counts. The index is unsigned: for signed ones Numba would test whether they are negative.


@jit(inline="always")
def forward_range(x, start, stop, alpha, y):
    """y[i] = x[i] where x[i] > 0, else alpha (exp(x[i]) - 1); alpha of the dtype of x."""
    zero = x.dtype.type(0)
    for i in range(U(start), U(stop)):
        # Both branches are computed and one is selected: without a jump the loop is vectorised.
        negative = alpha * expm1_of_nonpositive(zero if x[i] > zero else x[i])
        y[i] = x[i] if x[i] > zero else negative


@jit(inline="always")
def backward_range(gy, y, start, stop, alpha, gx):
    """gx[i] = gy[i] where y[i] > 0, else gy[i] (y[i] + alpha); alpha of the dtype of y."""
    one = y.dtype.type(1)
    for i in range(U(start), U(stop)):
        gx[i] = gy[i] * (one if y[i] > 0 else y[i] + alpha)
