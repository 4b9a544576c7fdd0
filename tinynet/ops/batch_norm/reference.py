"""Batch normalization by its definition. The other tiers must agree. Letters as in derivation.md.

x, y, gx, gy are (..., C); mean, var, gamma, beta and their gradients (C,).
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel

Pair = tuple[np.ndarray, np.ndarray]


@kernel
def statistics(x: np.ndarray) -> Pair:
    """(mean, var) of each channel; the variance is the mean square distance from the mean. The sums are float64."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes, dtype=np.result_type(x, np.float64))
    var = ((x - mean) ** 2).mean(axes)
    return mean.astype(x.dtype), var.astype(x.dtype)


@kernel
def normalize(
    x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
) -> np.ndarray:
    """y = gamma (x - mean) / sqrt(var + eps) + beta."""
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


@kernel
def backward_parameters(gy: np.ndarray, x: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float) -> Pair:
    """(ggamma, gbeta): the sums of gy u and of gy over all but the channels, u = (x - mean) / sqrt(var + eps)."""
    axes = tuple(range(x.ndim - 1))
    wide = np.result_type(x, np.float64)
    u = (x - mean) / np.sqrt(var + eps)
    ggamma, gbeta = (gy * u).sum(axes, dtype=wide), gy.sum(axes, dtype=wide)
    return ggamma.astype(x.dtype), gbeta.astype(x.dtype)


@kernel
def backward_input(
    gy: np.ndarray, x: np.ndarray, mean: np.ndarray, var: np.ndarray, gamma: np.ndarray, parameters: Pair, eps: float
) -> np.ndarray:
    """gx = gamma r (gy - gbeta / m - u ggamma / m), where mean and var are those of x itself.

    parameters: (ggamma, gbeta), as `backward_parameters` returns them.
    """
    ggamma, gbeta = parameters
    m = x.size // max(x.shape[-1], 1)
    r = 1 / np.sqrt(var + eps)
    u = (x - mean) * r
    return gamma * r * (gy - gbeta / m - u * ggamma / m)
