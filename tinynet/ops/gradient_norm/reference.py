"""The norm of all gradients by its definition. The other tiers must agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...backends.registry import kernel


@kernel
def sum_of_squares(gradients: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of the squares of all elements of all gradients (float, any shapes); returns shape (), float64.

    The squares are float64, too: in float32, the square of 1e20 is infinite and the square of 1e-25 is 0.
    """
    return np.asarray(sum(np.square(g, dtype=np.float64).sum() for g in gradients), np.float64)


@kernel
def scale(gradients: Sequence[np.ndarray], *, factor: float) -> None:
    """Multiply all gradients by a factor, in place."""
    for g in gradients:
        g *= factor
