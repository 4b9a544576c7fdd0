"""Leaky ReLU by its definition. The other tiers must agree."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, *, slope: float = 0.1, out: np.ndarray | None = None) -> np.ndarray:
    """y = x where x > 0, else slope x; any shape."""
    y = np.empty_like(x) if out is None else out
    y[...] = np.where(x > 0, x, slope * x)
    return y


@kernel
def backward(gy: np.ndarray, y: np.ndarray, *, slope: float = 0.1, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy where y > 0, else slope gy."""
    gx = np.empty_like(gy) if out is None else out
    gx[...] = np.where(y > 0, gy, slope * gy)
    return gx
