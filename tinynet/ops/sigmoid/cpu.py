"""The sigmoid in Numba: one parallel loop over all elements."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from .._cpu.elementwise import run
from .._cpu.fastmath import ELEMENTWISE, exp_of_nonpositive


def forward(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = 1 / (1 + exp(-x)); any shape."""
    return run(_forward, (x,), (), out)


def backward(gy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy y (1 - y)."""
    return run(_backward, (gy, y), (), out)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _forward(x, y):
    one = x.dtype.type(1)
    for i in prange(x.size):
        e = exp_of_nonpositive(-abs(x[i]))
        y[i] = (e if x[i] < 0 else one) / (one + e)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward(gy, y, gx):
    one = y.dtype.type(1)
    for i in prange(y.size):
        gx[i] = gy[i] * y[i] * (one - y[i])
