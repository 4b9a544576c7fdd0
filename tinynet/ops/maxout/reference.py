"""Maxout by its definition. The other tiers must agree."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, *, pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, winner): y[..., m] = max over j of x[..., m pieces + j], and the int32 j where it was found.

    x: (..., C), C a multiple of pieces. y, winner: (..., C / pieces). Of equal values the first is taken; NaN is
    larger than any number.
    """
    shape = (*x.shape[:-1], x.shape[-1] // pieces)
    groups = x.reshape(*shape, pieces)
    # argmax returns the first of equal values and takes NaN for the largest.
    return groups.max(axis=-1), groups.argmax(axis=-1).astype(np.int32)


@kernel
def backward(gy: np.ndarray, winner: np.ndarray, *, pieces: int) -> np.ndarray:
    """gx[..., m pieces + j] = gy[..., m] where j = winner[..., m], else 0; (..., C)."""
    shape = (*gy.shape[:-1], gy.shape[-1] * pieces)
    is_winner = winner[..., np.newaxis] == np.arange(pieces)
    return np.where(is_winner, gy[..., np.newaxis], 0).reshape(shape)
