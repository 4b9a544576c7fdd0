"""tanh in Numba: one parallel loop over all elements."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from .._cpu.elementwise import run
from .._cpu.fastmath import ELEMENTWISE, expm1_of_nonpositive


def forward(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = tanh(x); any shape."""
    return run(_forward, (x,), (), out)


def backward(gy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy (1 - y^2)."""
    return run(_backward, (gy, y), (), out)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _forward(x, y):
    two = x.dtype.type(2)
    for i in prange(x.size):
        t = expm1_of_nonpositive(-two * abs(x[i]))
        size = -t / (two + t)
        y[i] = -size if x[i] < 0 else size


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward(gy, y, gx):
    one = y.dtype.type(1)
    for i in prange(y.size):
        gx[i] = gy[i] * ((one - y[i]) * (one + y[i]))
