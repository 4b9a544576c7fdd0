"""conv2d, `naive`: the definition, one loop for each index. Slow; to read, and to compare the others with."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..jit import jit
from ..out import contiguous_result, delivered
from .geometry import Pair, output_size


@jit(parallel=True)
def _forward(x, w, y, stride, padding, dilation, groups):
    n_images, height, width, _ = x.shape
    kh, kw, i_group, c_out = w.shape
    o_group = c_out // groups
    for n in prange(n_images):
        for oy in range(y.shape[1]):
            for ox in range(y.shape[2]):
                for co in range(c_out):
                    total = x.dtype.type(0)
                    for ky in range(kh):
                        iy = oy * stride[0] + ky * dilation[0] - padding[0]
                        for kx in range(kw):
                            ix = ox * stride[1] + kx * dilation[1] - padding[1]
                            if 0 <= iy < height and 0 <= ix < width:
                                for ci in range(i_group):
                                    total += x[n, iy, ix, co // o_group * i_group + ci] * w[ky, kx, ci, co]
                    y[n, oy, ox, co] = total


def forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """`forward` as the definition says it: one loop for each index."""
    size = output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)
    y = contiguous_result((len(x), *size, w.shape[3]), x.dtype, out)
    _forward(np.ascontiguousarray(x), np.ascontiguousarray(w), y, stride, padding, dilation, groups)
    if b is not None:
        y += b
    return delivered(y, out)
