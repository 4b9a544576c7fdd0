"""ReLU by its definition. The other tiers must agree."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """y = max(x, 0), NaN where x is NaN; any shape."""
    y = np.empty_like(x) if out is None else out
    y[...] = np.maximum(x, 0)
    return y


@kernel
def backward(gy: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy where y > 0, else 0."""
    gx = np.empty_like(gy) if out is None else out
    gx[...] = np.where(y > 0, gy, 0)
    return gx
