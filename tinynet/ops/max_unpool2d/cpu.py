"""max_unpool2d in Numba: max_pool2d's two kernels with their roles exchanged."""

from __future__ import annotations

import numpy as np

from .._shared.geometry import Pair
from ..max_pool2d import cpu as max_pool2d


def forward(y: np.ndarray, indices: np.ndarray, *, size: Pair) -> np.ndarray:
    """x (N, H, W, C): each y[n, oy, ox, c] added to the pixel of its index; zeros elsewhere. size: (H, W)."""
    return max_pool2d.scatter(y, indices, size=size)


def backward(gx: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """gy[n, oy, ox, c] = gx at the pixel of its index."""
    return max_pool2d.gather(gx, indices)
