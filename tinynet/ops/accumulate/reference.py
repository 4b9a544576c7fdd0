"""accumulate by its definition. The other tiers must agree."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def add(x: np.ndarray, y: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """z[i] = x[i] + y[i]; x and y of one shape and dtype."""
    return np.add(x, y, out=np.empty(x.shape, x.dtype) if out is None else out)
