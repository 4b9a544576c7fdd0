"""Binary cross-entropy with logits by its definition. The other tiers must agree. Letters as in derivation.md."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None, *, pos_weight: float = 1.0) -> np.ndarray:
    """L = (1/M) sum of w [q t softplus(-x) + (1 - t) softplus(x)], shape (), dtype of x; the sum is float64.

    x, t, w: of one shape and dtype; w None means 1. pos_weight: q.
    """
    log_part = np.log1p(np.exp(-np.abs(x)))
    softplus_x = np.maximum(x, 0) + log_part
    softplus_minus_x = np.maximum(-x, 0) + log_part
    losses = pos_weight * t * softplus_minus_x + (1 - t) * softplus_x
    if w is not None:
        losses = w * losses
    return np.asarray(np.mean(losses, dtype=np.float64)).astype(x.dtype)


@kernel
def backward(
    gy: np.ndarray, x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None, *, pos_weight: float = 1.0
) -> np.ndarray:
    """gx = gy (w / M) [(1 - t) sigma(x) - q t sigma(-x)], of the shape and dtype of x. gy ()."""
    e = np.exp(-np.abs(x))
    sigma_x = np.where(x < 0, e, 1) / (1 + e)
    sigma_minus_x = np.where(x < 0, 1, e) / (1 + e)
    slope = (1 - t) * sigma_x - pos_weight * t * sigma_minus_x
    return np.asarray(gy / x.size * slope * (1 if w is None else w))
