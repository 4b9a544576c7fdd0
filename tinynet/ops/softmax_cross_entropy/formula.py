"""The divisor of the weighted mean: the same on every tier."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.arrays import array_module


def total_weight(t: Any, w: Any) -> Any:
    """W, the sum over rows of the weight of the row's class, shape (), float64; without weights the number of rows."""
    return array_module(t).asarray(t.size, np.float64) if w is None else w[t].sum(dtype=np.float64)
