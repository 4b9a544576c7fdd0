"""conv3d in Numba: conv2d's kernels, slice by slice; see versions.py."""

from __future__ import annotations

from ..conv2d import cpu as conv2d
from .versions import implementations

IMPLEMENTATIONS = implementations(conv2d.IMPLEMENTATIONS[conv2d.DEFAULT])
