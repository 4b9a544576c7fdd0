"""accumulate by its definition. The other tiers must agree."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z[i] = x[i] + y[i]; x and y of one shape and dtype."""
    return np.asarray(x + y)
