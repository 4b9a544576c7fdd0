"""ELU by its definition. The other tiers must agree."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, *, alpha: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """y = x where x > 0, else alpha (exp(x) - 1); any shape."""
    y = np.empty_like(x) if out is None else out
    y[...] = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y


@kernel
def backward(gy: np.ndarray, y: np.ndarray, *, alpha: float = 1.0, out: np.ndarray | None = None) -> np.ndarray:
    """gx = gy where y > 0, else gy (y + alpha)."""
    gx = np.empty_like(gy) if out is None else out
    gx[...] = np.where(y > 0, gy, gy * (y + alpha))
    return gx
