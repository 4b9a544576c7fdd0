"""conv3d on a GPU: conv2d's kernels, slice by slice; see versions.py."""

from __future__ import annotations

from typing import Any

from ..conv2d import cuda as conv2d
from .versions import implementations

IMPLEMENTATIONS = implementations(conv2d.IMPLEMENTATIONS["blocked"])


def backward_bias(gy: Any) -> Any:
    """gb[co] = sum over n, oz, oy, ox of gy[n, oz, oy, ox, co]."""
    return conv2d.backward_bias(gy.reshape(-1, *gy.shape[2:]))
