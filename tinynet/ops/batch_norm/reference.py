"""Batch normalisation by its definition. The other tiers must agree. Letters as in derivation.md.

x, y, gx, gy are (..., C); mean, var, gamma, beta and their gradients (C,).
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel

Pair = tuple[np.ndarray, np.ndarray]


@kernel
def statistics(x: np.ndarray, *, out: Pair | None = None) -> Pair:
    """(mean, var) of each channel; the variance is the mean square distance from the mean. The sums are float64."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes, dtype=np.result_type(x, np.float64))
    var = ((x - mean) ** 2).mean(axes)
    return _delivered((mean.astype(x.dtype), var.astype(x.dtype)), out)


@kernel
def normalize(
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    eps: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y = gamma (x - mean) / sqrt(var + eps) + beta."""
    y = np.empty_like(x) if out is None else out
    y[...] = gamma * (x - mean) / np.sqrt(var + eps) + beta
    return y


@kernel
def backward_parameters(
    gy: np.ndarray, x: np.ndarray, mean: np.ndarray, var: np.ndarray, *, eps: float, out: Pair | None = None
) -> Pair:
    """(ggamma, gbeta): the sums of gy u and of gy over all but the channels, u = (x - mean) / sqrt(var + eps)."""
    axes = tuple(range(x.ndim - 1))
    wide = np.result_type(x, np.float64)
    u = (x - mean) / np.sqrt(var + eps)
    ggamma, gbeta = (gy * u).sum(axes, dtype=wide), gy.sum(axes, dtype=wide)
    return _delivered((ggamma.astype(x.dtype), gbeta.astype(x.dtype)), out)


@kernel
def backward_input(
    gy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    ggamma: np.ndarray,
    gbeta: np.ndarray,
    *,
    eps: float,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gx = gamma r (gy - gbeta / m - u ggamma / m), where mean and var are those of x itself."""
    gx = np.empty_like(x) if out is None else out
    m = x.size // max(x.shape[-1], 1)
    r = 1 / np.sqrt(var + eps)
    u = (x - mean) * r
    gx[...] = gamma * r * (gy - gbeta / m - u * ggamma / m)
    return gx


def _delivered(results: Pair, out: Pair | None) -> Pair:
    if out is None:
        return results
    for target, result in zip(out, results):
        target[...] = result
    return out
