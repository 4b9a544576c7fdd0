"""Local response normalization by its definition. The other tiers must agree. Letters as in derivation.md."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, *, size: int, k: float, alpha: float, beta: float) -> np.ndarray:
    """y_c = x_c s_c^-beta with s_c = k + alpha sum of x_j^2 over the `size` channels around c. x (..., C)."""
    s = k + alpha * _window_sum(x * x, size)
    return x * s**-beta


@kernel
def backward(gy: np.ndarray, x: np.ndarray, *, size: int, k: float, alpha: float, beta: float) -> np.ndarray:
    """gx_i = gy_i s_i^-beta - 2 alpha beta x_i sum of gy_c x_c s_c^(-beta - 1) over the channels around i."""
    s = k + alpha * _window_sum(x * x, size)
    t = gy * x * s ** (-beta - 1)
    return gy * s**-beta - 2 * alpha * beta * x * _window_sum(t, size)


def _window_sum(v: np.ndarray, size: int) -> np.ndarray:
    """For each channel the sum over those at most (size - 1) / 2 away from it."""
    total = np.empty_like(v)
    channels, half = v.shape[-1], size // 2
    for c in range(channels):
        total[..., c] = v[..., max(0, c - half) : c + half + 1].sum(axis=-1)
    return total
