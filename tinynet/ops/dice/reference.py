"""The soft Dice loss by its definition. The other tiers must agree. Letters as in derivation.md."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .formula import loss_of, slopes_of


@kernel
def forward(
    p: np.ndarray, t: np.ndarray, *, smooth: float = 1.0, per_image: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(loss, sums): the loss (), in the dtype of p, and I and S of each group (G, 2), in float64.

    p, t: (N, ...) of one shape; G = N groups if per_image, otherwise 1.
    """
    groups = len(p) if per_image else 1
    p, t = p.reshape(groups, -1), t.reshape(groups, -1)
    wide = np.result_type(p, np.float64)
    sums = np.empty((groups, 2), wide)
    for g in range(groups):
        sums[g, 0] = np.sum(p[g].astype(wide) * t[g])
        sums[g, 1] = np.sum(p[g], dtype=wide) + np.sum(t[g], dtype=wide)
    return loss_of(sums, smooth).astype(p.dtype), sums


@kernel
def backward(gy: np.ndarray, t: np.ndarray, sums: np.ndarray, *, smooth: float = 1.0) -> np.ndarray:
    """gp = gy (constant_g - slope_g t), of the shape and dtype of t. gy (), sums as forward gave them."""
    constant, slope = (values[:, None] for values in slopes_of(sums, smooth))
    return (gy * (constant - slope * t.reshape(len(sums), -1))).reshape(t.shape).astype(t.dtype)
