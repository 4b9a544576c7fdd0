"""avg_pool2d in Numba: parallel over rows; the innermost loop goes over neighboring channels, which vectorizes."""

from __future__ import annotations

import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._shared.geometry import Geometry, Pair


def forward(x: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """y = the mean of each window; padding counts as zeros."""
    y = memory.empty((len(x), *geometry.output_size(x.shape[1:3], kernel_size), x.shape[3]), x.dtype)
    count = x.dtype.type(kernel_size[0] * kernel_size[1])
    _forward(np.ascontiguousarray(x), kernel_size, geometry.stride, geometry.padding, count, y)
    return y


def backward(gy: np.ndarray, input_size: Pair, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx: each window gives every one of its pixels the same share of its gradient. input_size: (H, W) of gx."""
    gx = memory.empty((len(gy), *input_size, gy.shape[3]), gy.dtype)
    count = gy.dtype.type(kernel_size[0] * kernel_size[1])
    _backward(np.ascontiguousarray(gy), kernel_size, geometry.stride, geometry.padding, count, gx)
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
    """Every pixel reads the windows that it lies in: derivation.md."""
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
