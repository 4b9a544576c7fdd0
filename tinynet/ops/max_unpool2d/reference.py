"""max_unpool2d by its definition, which is max_pool2d's: the same two kernels with their roles exchanged."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .._shared.geometry import Pair
from ..max_pool2d import reference as max_pool2d


@kernel
def forward(y: np.ndarray, indices: np.ndarray, *, size: Pair) -> np.ndarray:
    """x (N, H, W, C): each y[n, oy, ox, c] added to the pixel of its index; zeros elsewhere. size: (H, W)."""
    return max_pool2d.scatter.definition(y, indices, size=size)


@kernel
def backward(gx: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """gy[n, oy, ox, c] = gx at the pixel of its index."""
    return max_pool2d.gather.definition(gx, indices)
