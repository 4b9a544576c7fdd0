"""From the two sums of each group to the loss and its slopes: the same few lines for every tier."""

from __future__ import annotations

import numpy as np


def loss_of(sums: np.ndarray, smooth: float) -> np.ndarray:
    """Mean over groups of 1 - (2 I + s) / (S + s); sums (G, 2) holds I and S of each group."""
    overlap, total = sums[:, 0], sums[:, 1]
    return np.asarray(np.mean(1 - (2 * overlap + smooth) / (total + smooth)))


def slopes_of(sums: np.ndarray, smooth: float) -> tuple[np.ndarray, np.ndarray]:
    """(constant, slope), each (G,): dL/dp_i = constant_g - slope_g t_i."""
    groups = len(sums)
    overlap, total = sums[:, 0], sums[:, 1]
    constant = (2 * overlap + smooth) / (total + smooth) ** 2 / groups
    slope = 2 / (total + smooth) / groups
    return constant, slope
