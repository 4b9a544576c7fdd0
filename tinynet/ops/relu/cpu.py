"""ReLU in Numba: one parallel loop over all elements."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from .._cpu.elementwise import run
from .._cpu.fastmath import ELEMENTWISE


def forward(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = max(x, 0), NaN where x is NaN; any shape."""
    return run(_forward, (x,), (), out)


def backward(gy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy where y > 0, else 0."""
    return run(_backward, (gy, y), (), out)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _forward(x, y):
    zero = x.dtype.type(0)
    for i in prange(x.size):
        y[i] = zero if x[i] <= zero else x[i]  # not `x[i] if x[i] > zero`: a NaN has to come through


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward(gy, y, gx):
    zero = gy.dtype.type(0)
    for i in prange(y.size):
        gx[i] = gy[i] if y[i] > zero else zero
