"""max_unpool2d on a GPU: max_pool2d's two kernels with their roles exchanged."""

from __future__ import annotations

from typing import Any

from .._shared.geometry import Pair
from ..max_pool2d import cuda as max_pool2d


def forward(y: Any, indices: Any, *, size: Pair) -> Any:
    """x (N, H, W, C): each y[n, oy, ox, c] added to the pixel of its index; zeros elsewhere. size: (H, W)."""
    return max_pool2d.scatter(y, indices, size=size)


def backward(gx: Any, indices: Any) -> Any:
    """gy[n, oy, ox, c] = gx at the pixel of its index."""
    return max_pool2d.gather(gx, indices)
