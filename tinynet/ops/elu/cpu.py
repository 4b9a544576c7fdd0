"""ELU in Numba: one parallel loop over all elements."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..elementwise import run
from ..fastmath import ELEMENTWISE, expm1_of_nonpositive
from ..jit import jit


def forward(x: np.ndarray, *, alpha: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """y = x where x > 0, else alpha (exp(x) - 1); any shape."""
    return run(_forward, (x,), (alpha,), out)


def backward(gy: np.ndarray, y: np.ndarray, *, alpha: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy where y > 0, else gy (y + alpha)."""
    return run(_backward, (gy, y), (alpha,), out)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _forward(x, alpha, y):
    zero = x.dtype.type(0)
    for i in prange(x.size):
        # Both branches are computed and one is selected: without a jump the loop is vectorised.
        negative = alpha * expm1_of_nonpositive(zero if x[i] > zero else x[i])
        y[i] = x[i] if x[i] > zero else negative


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward(gy, y, alpha, gx):
    for i in prange(y.size):
        gx[i] = gy[i] * (y.dtype.type(1) if y[i] > 0 else y[i] + alpha)
