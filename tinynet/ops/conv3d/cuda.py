"""conv3d on a GPU: conv2d's kernels, slice by slice; see versions.py."""

from __future__ import annotations

from ..conv2d import cuda as conv2d
from .versions import implementations

IMPLEMENTATIONS = implementations(conv2d.IMPLEMENTATIONS["blocked"])
