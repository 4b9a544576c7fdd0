"""conv3d on a GPU: conv2d's kernels, slice by slice; see versions.py.

    joined   the default: the slices that meet in one slice of the result are the channels of one conv2d
    slices   a conv2d for each depth tap, and the sum of all of them

Both call conv2d's `blocked`.
"""

from __future__ import annotations

from ..conv2d import cuda as conv2d
from .versions import implementations

IMPLEMENTATIONS = implementations(conv2d.IMPLEMENTATIONS["blocked"])
