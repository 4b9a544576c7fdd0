"""avg_pool2d in Numba: parallel over rows; the innermost loop goes over neighboring channels, which vectorizes."""

from __future__ import annotations

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.elementwise import threads_for
from .._shared.geometry import Geometry, Pair


def forward(x: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """y = the mean of each window; padding counts as zeros."""
    y = memory.empty((len(x), *geometry.output_size(x.shape[1:3], kernel_size), x.shape[3]), x.dtype)
    count, windows = kernel_size[0] * kernel_size[1], (kernel_size, geometry.stride, geometry.padding)
    _forward(threads_for(y.size * count), np.ascontiguousarray(x), windows, x.dtype.type(count), y)
    return y


def backward(gy: np.ndarray, input_size: Pair, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx: each window gives every one of its pixels the same share of its gradient. input_size: (H, W) of gx."""
    gx = memory.empty((len(gy), *input_size, gy.shape[3]), gy.dtype)
    count, windows = kernel_size[0] * kernel_size[1], (kernel_size, geometry.stride, geometry.padding)
    _backward(threads_for(gy.size * count), np.ascontiguousarray(gy), windows, gy.dtype.type(count), gx)
    return gx


@jit(inline="always")
def _mean_over(image, rows, columns, count, total):
    """total (C,) = the sum of the pixels of the rows and columns, each (first, end), divided by count."""
    total[:] = 0
    for iy in range(*rows):
        for ix in range(*columns):
            pixel = image[iy, ix]
            for c in range(len(total)):
                total[c] += pixel[c]
    for c in range(len(total)):
        total[c] /= count


# windows: kernel size, stride and padding, each (y, x).
@jit(separate=True)
def _forward_row(image, windows, oy, count, row):
    """Row oy of the means of one image."""
    (kh, kw), (sy, sx), (py, px) = windows
    height, width, _ = image.shape
    top = oy * sy - py
    rows = max(top, 0), min(top + kh, height)
    for ox in range(len(row)):
        left = ox * sx - px
        _mean_over(image, rows, (max(left, 0), min(left + kw, width)), count, row[ox])


@jit(separate=True)
def _forward_share(thread, threads, x, windows, count, y):
    first, end = share_of(thread, threads, len(y) * y.shape[1])
    for line in range(first, end):
        n, oy = divmod(line, y.shape[1])
        _forward_row(x[n], windows, oy, count, y[n, oy])


@jit
def _forward(threads, x, windows, count, y):
    in_parallel(_forward_share, threads, (threads, x, windows, count, y))


@jit(separate=True)
def _backward_row(gradients, windows, iy, count, row):
    """Row iy of gx for one image: every pixel reads the windows that it lies in (derivation.md)."""
    (kh, kw), (sy, sx), (py, px) = windows
    out_height, out_width, _ = gradients.shape
    rows = max(0, -((kh - 1 - iy - py) // sy)), min(out_height, (iy + py) // sy + 1)  # -(-a // s) is a / s rounded up
    for ix in range(len(row)):
        columns = max(0, -((kw - 1 - ix - px) // sx)), min(out_width, (ix + px) // sx + 1)
        _mean_over(gradients, rows, columns, count, row[ix])


@jit(separate=True)
def _backward_share(thread, threads, gy, windows, count, gx):
    first, end = share_of(thread, threads, len(gx) * gx.shape[1])
    for line in range(first, end):
        n, iy = divmod(line, gx.shape[1])
        _backward_row(gy[n], windows, iy, count, gx[n, iy])


@jit
def _backward(threads, gy, windows, count, gx):
    in_parallel(_backward_share, threads, (threads, gy, windows, count, gx))
