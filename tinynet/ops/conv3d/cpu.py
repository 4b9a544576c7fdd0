"""conv3d in Numba: conv2d's kernels, slice by slice; see versions.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..conv2d import cpu as conv2d
from .versions import implementations

IMPLEMENTATIONS = implementations(conv2d.IMPLEMENTATIONS[conv2d.DEFAULT])


def backward_bias(gy: np.ndarray) -> Any:
    """gb[co] = sum over n, oz, oy, ox of gy[n, oz, oy, ox, co]."""
    return conv2d.backward_bias(gy.reshape(-1, *gy.shape[2:]))
