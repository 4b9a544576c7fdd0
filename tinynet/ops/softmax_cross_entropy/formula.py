"""The divisor of the weighted mean: the same on every tier."""

from __future__ import annotations

import numpy as np


def total_weight(t: np.ndarray, w: np.ndarray | None, classes: int) -> float:
    """W, the sum over rows of the weight of the row's class; without weights the number of rows."""
    return float(t.size) if w is None else float(np.bincount(t.reshape(-1), minlength=classes) @ w)
