"""Softmax cross-entropy by its definition. The other tiers must agree. Letters as in derivation.md."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .formula import total_weight


@kernel
def forward(x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None) -> np.ndarray:
    """L = (1/W) sum over rows of w_t [log(sum_k exp(x_k - m)) - (x_t - m)], shape (), dtype of x.

    x: (..., C). t: (...), integers in 0 .. C - 1. w: (C,) or None. The sum over rows is float64.
    """
    shifted = x - x.max(axis=-1, keepdims=True)
    at_target = np.take_along_axis(shifted, t[..., None], axis=-1)[..., 0]
    losses = np.log(np.exp(shifted).sum(axis=-1)) - at_target
    if w is not None:
        losses = w[t] * losses
    total = np.sum(losses, dtype=np.result_type(x, np.float64))
    return np.asarray(total / total_weight(t, w)).astype(x.dtype)


@kernel
def backward(gy: np.ndarray, x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None) -> np.ndarray:
    """gx = gy (w_t / W) (p_c - [c = t]), of the shape and dtype of x. gy ()."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    is_target = np.arange(x.shape[-1]) == t[..., None]
    factor = gy / total_weight(t, w) * (1 if w is None else w[t][..., None])
    return (factor * (p - is_target)).astype(x.dtype)
