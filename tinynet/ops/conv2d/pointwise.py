"""conv2d, `pointwise`: 1x1 kernels with few output channels, as at the end of a segmentation net.

`blocked` has output channels in the lanes of its vectors. With one or three of them, most lanes would compute zeros,
and backward_weight would first pad gy to a whole vector per pixel. Here the lanes are the input channels.
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.parts import whole
from .._cpu.reduction import REDUCTION
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, Pair
from .epilogue import finish

FEW = 4  # output channels, at most
CHUNK = 1024  # pixels added up before their sum is added to the total: less rounding error


def forward(x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
    """y[n, y, x, co] = epilogue(b[co] + sum over ci of x[n, y, x, ci] w[ci, co])."""
    x, (c_in, c_out) = whole(x), w.shape[2:]
    y = memory.empty((*x.shape[:3], c_out), x.dtype)
    start = np.zeros(c_out, x.dtype) if b is None else np.ascontiguousarray(b)
    _forward(x.reshape(-1, c_in), _by_output(w), start, y.reshape(-1, c_out))
    finish(y, epilogue)
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx[n, y, x, ci] = sum over co of gy[n, y, x, co] w[ci, co]."""
    c_in, c_out = w.shape[2:]
    gx = memory.empty((*gy.shape[:3], c_in), gy.dtype)
    _backward_input(whole(gy).reshape(-1, c_out), _by_output(w), gx.reshape(-1, c_in))
    return gx


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gw[0, 0, ci, co] = sum over n, y, x of x[n, y, x, ci] gy[n, y, x, co]."""
    c_in, c_out = x.shape[3], gy.shape[3]
    sums = np.zeros((numba.get_num_threads(), c_out, c_in), x.dtype)
    _backward_weight(whole(x).reshape(-1, c_in), whole(gy).reshape(-1, c_out), sums)
    return np.ascontiguousarray(sums.sum(axis=0).T).reshape(1, 1, c_in, c_out)


def _by_output(w: np.ndarray) -> np.ndarray:
    """The weights as (C_out, C_in)."""
    return np.ascontiguousarray(w.reshape(w.shape[2:]).T)


# ------------------------------------------------------------------------------------- the loops
# What a thread does is compiled once, as a function of its own (separate.py).
@jit(separate=True, fastmath=REDUCTION)
def _forward_pixels(run, x, w, b, y):
    c_out, c_in = w.shape
    for pixel in range(run * CHUNK, min((run + 1) * CHUNK, len(x))):
        for co in range(c_out):
            total = b[co]
            for ci in range(c_in):
                total += x[pixel, ci] * w[co, ci]
            y[pixel, co] = total


@jit
def _forward(x, w, b, y):
    in_parallel(_forward_pixels, -(-len(x) // CHUNK), (x, w, b, y))


@jit(separate=True, fastmath=ELEMENTWISE)
def _backward_input_pixels(run, gy, w, gx):
    c_out, c_in = w.shape
    for pixel in range(run * CHUNK, min((run + 1) * CHUNK, len(gy))):
        for ci in range(c_in):
            gx[pixel, ci] = gy[pixel, 0] * w[0, ci]
        for co in range(1, c_out):
            for ci in range(c_in):
                gx[pixel, ci] += gy[pixel, co] * w[co, ci]


@jit
def _backward_input(gy, w, gx):
    in_parallel(_backward_input_pixels, -(-len(gy) // CHUNK), (gy, w, gx))


@jit(separate=True, fastmath=ELEMENTWISE)
def _add_products(thread, x, gy, sums):
    (threads, c_out, c_in), total = sums.shape, sums[thread]
    begin, end = share_of(thread, threads, len(x))
    for first in range(begin, end, CHUNK):
        part = np.zeros((c_out, c_in), x.dtype)
        for pixel in range(first, min(first + CHUNK, end)):
            for co in range(c_out):
                for ci in range(c_in):
                    part[co, ci] += x[pixel, ci] * gy[pixel, co]
        total += part


@jit
def _backward_weight(x, gy, sums):
    in_parallel(_add_products, len(sums), (x, gy, sums))
