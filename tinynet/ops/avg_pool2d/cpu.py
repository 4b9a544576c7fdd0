"""avg_pool2d in Numba: parallel over rows; the innermost loop goes over neighbouring channels, which vectorises."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from ..conv2d.geometry import Pair, output_size


def forward(x: np.ndarray, *, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """y = the mean of each window; padding counts as zeros."""
    shape = (len(x), *output_size(x.shape[1:3], size, stride, padding, (1, 1)), x.shape[3])
    y = memory.empty(shape, x.dtype)
    _forward(np.ascontiguousarray(x), size, stride, padding, x.dtype.type(size[0] * size[1]), y)
    return y


def backward(gy: np.ndarray, *, plane: Pair, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """gx: each window gives every one of its pixels the same share of its gradient. plane: (H, W) of gx."""
    gx = memory.empty((len(gy), *plane, gy.shape[3]), gy.dtype)
    _backward(np.ascontiguousarray(gy), size, stride, padding, gy.dtype.type(size[0] * size[1]), gx)
    return gx


@jit(parallel=True)
def _forward(x, size, stride, padding, count, y):
    _, height, width, channels = x.shape
    n_images, out_height, out_width, _ = y.shape
    for line in prange(n_images * out_height):
        n, oy = line // out_height, line % out_height
        top = oy * stride[0] - padding[0]
        for ox in range(out_width):
            left = ox * stride[1] - padding[1]
            total = y[n, oy, ox]
            total[:] = 0
            for iy in range(max(top, 0), min(top + size[0], height)):
                for ix in range(max(left, 0), min(left + size[1], width)):
                    pixel = x[n, iy, ix]
                    for c in range(channels):
                        total[c] += pixel[c]
            for c in range(channels):
                total[c] /= count


@jit(parallel=True)
def _backward(gy, size, stride, padding, count, gx):
    """Every pixel asks the windows that it lies in: derivation.md."""
    _, out_height, out_width, channels = gy.shape
    n_images, height, width, _ = gx.shape
    for line in prange(n_images * height):
        n, iy = line // height, line % height
        first_y = max(0, -((size[0] - 1 - iy - padding[0]) // stride[0]))  # -(-a // s) is a / s rounded up
        last_y = min(out_height - 1, (iy + padding[0]) // stride[0])
        for ix in range(width):
            first_x = max(0, -((size[1] - 1 - ix - padding[1]) // stride[1]))
            last_x = min(out_width - 1, (ix + padding[1]) // stride[1])
            total = gx[n, iy, ix]
            total[:] = 0
            for oy in range(first_y, last_y + 1):
                for ox in range(first_x, last_x + 1):
                    window = gy[n, oy, ox]
                    for c in range(channels):
                        total[c] += window[c]
            for c in range(channels):
                total[c] /= count
