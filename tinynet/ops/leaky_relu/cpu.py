"""Leaky ReLU in Numba: one parallel loop over all elements."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from .._cpu.elementwise import run
from .._cpu.fastmath import ELEMENTWISE


def forward(x: np.ndarray, *, slope: float = 0.1, out: np.ndarray | None = None) -> np.ndarray:
    """y = x where x > 0, else slope x; any shape."""
    return run(_forward, (x,), (slope,), out)


def backward(gy: np.ndarray, y: np.ndarray, *, slope: float = 0.1, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy where y > 0, else slope gy."""
    return run(_backward, (gy, y), (slope,), out)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _forward(x, slope, y):
    for i in prange(x.size):
        y[i] = x[i] if x[i] > 0 else slope * x[i]


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward(gy, y, slope, gx):
    for i in prange(y.size):
        gx[i] = gy[i] if y[i] > 0 else slope * gy[i]
