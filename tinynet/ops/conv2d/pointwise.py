"""conv2d with 1x1 kernels to a few channels, as at the end of a segmentation net: each pixel for itself.

`blocked` has output channels in the lanes of its vectors. With one or three of them most lanes would compute zeros,
and backward_weight would first write out a gy of a whole vector per pixel. Here the lanes are the input channels.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from ...backends.out import contiguous_result, delivered
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.reduction import REDUCTION
from .epilogue import Activation, activate
from .geometry import Pair

FEW = 4  # output channels, at most
CHUNK = 1024  # pixels added up before they are added to the total: less rounding error


def covers(kernel: tuple[int, ...], c_out: int, *, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """Whether these kernels compute it, and are the faster ones; dilation means nothing to a 1x1 kernel."""
    return kernel == stride == (1, 1) and padding == (0, 0) and groups == 1 and c_out <= FEW


def convolve(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, activation: Activation, out: np.ndarray | None
) -> np.ndarray:
    """y[n, y, x, co] = b[co] + sum over ci of x[n, y, x, ci] w[ci, co], and then the activation."""
    c_in, c_out = w.shape[2:]
    y = contiguous_result((*x.shape[:3], c_out), x.dtype, out)
    start = np.zeros(c_out, x.dtype) if b is None else np.ascontiguousarray(b)
    by_output = np.ascontiguousarray(w.reshape(c_in, c_out).T)
    _forward(np.ascontiguousarray(x).reshape(-1, c_in), by_output, start, y.reshape(-1, c_out))
    activate(y.reshape(-1), 0, y.size, activation)
    return delivered(y, out)


def backward_input(gy: np.ndarray, w: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """gx[n, y, x, ci] = sum over co of gy[n, y, x, co] w[ci, co]."""
    c_in, c_out = w.shape[2:]
    gx = contiguous_result((*gy.shape[:3], c_in), gy.dtype, out)
    by_output = np.ascontiguousarray(w.reshape(c_in, c_out).T)
    _backward_input(np.ascontiguousarray(gy).reshape(-1, c_out), by_output, gx.reshape(-1, c_in))
    return delivered(gx, out)


def backward_weight(x: np.ndarray, gy: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """gw[0, 0, ci, co] = sum over n, y, x of x[n, y, x, ci] gy[n, y, x, co]."""
    c_in, c_out = x.shape[3], gy.shape[3]
    sums = np.zeros((numba.get_num_threads(), c_out, c_in), x.dtype)
    _backward_weight(np.ascontiguousarray(x).reshape(-1, c_in), np.ascontiguousarray(gy).reshape(-1, c_out), sums)
    return delivered(np.ascontiguousarray(sums.sum(axis=0).T).reshape(1, 1, c_in, c_out), out)


@jit(parallel=True, fastmath=REDUCTION)
def _forward(x, w, b, y):
    c_out, c_in = w.shape
    for pixel in prange(len(x)):
        for co in range(c_out):
            total = b[co]
            for ci in range(c_in):
                total += x[pixel, ci] * w[co, ci]
            y[pixel, co] = total


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward_input(gy, w, gx):
    c_out, c_in = w.shape
    for pixel in prange(len(gy)):
        for ci in range(c_in):
            gx[pixel, ci] = gy[pixel, 0] * w[0, ci]
        for co in range(1, c_out):
            for ci in range(c_in):
                gx[pixel, ci] += gy[pixel, co] * w[co, ci]


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward_weight(x, gy, sums):
    threads, c_out, c_in = sums.shape
    pixels = len(x)
    for thread in prange(threads):
        total, part = sums[thread], np.empty((c_out, c_in), x.dtype)
        end = (thread + 1) * pixels // threads
        for first in range(thread * pixels // threads, end, CHUNK):
            part[:] = 0
            for pixel in range(first, min(first + CHUNK, end)):
                for co in range(c_out):
                    for ci in range(c_in):
                        part[co, ci] += x[pixel, ci] * gy[pixel, co]
            total += part
