"""Maxout by its definition. The other tiers must agree."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(
    x: np.ndarray, *, pieces: int, out: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(y, winner): y[..., m] = max over j of x[..., m pieces + j], and the int32 j where it was found.

    x: (..., C), C a multiple of pieces. y, winner: (..., C / pieces). Of equal values the first is taken; NaN is
    larger than any number. `out` is a pair of arrays for y and winner.
    """
    shape = (*x.shape[:-1], x.shape[-1] // pieces)
    y, winner = (np.empty(shape, x.dtype), np.empty(shape, np.int32)) if out is None else out
    groups = x.reshape(*shape, pieces)
    winner[...] = groups.argmax(axis=-1)  # returns the first of equal values and takes NaN for the largest
    y[...] = groups.max(axis=-1)
    return y, winner


@kernel
def backward(gy: np.ndarray, winner: np.ndarray, *, pieces: int, out: np.ndarray | None = None) -> np.ndarray:
    """gx[..., m pieces + j] = gy[..., m] where j = winner[..., m], else 0; (..., C)."""
    shape = (*gy.shape[:-1], gy.shape[-1] * pieces)
    gx = np.empty(shape, gy.dtype) if out is None else out
    is_winner = winner[..., np.newaxis] == np.arange(pieces)
    gx[...] = np.where(is_winner, gy[..., np.newaxis], 0).reshape(shape)
    return gx
