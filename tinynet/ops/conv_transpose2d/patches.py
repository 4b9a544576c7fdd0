"""Transposed convolution whose kernel is as large as its stride: every pixel becomes a patch of its own.

As in a U-Net, where a pixel becomes 2 x 2. No two copies of the kernel overlap and none is cut off, so each row of y
belongs to one row of x and one row of the kernel: oy = iy KH + ky. In that row the KW C_out elements painted by one
pixel are neighbors in memory, (kx, co) being one index. So each row is a product of two matrices,

    y[oy]  (W, KW C_out)       =  bias + x[iy] (W, C_in)  w[ky] (C_in, KW C_out)
    gx[iy] (W, C_in)           =  sum over ky, kx of gy[oy, kx::KW] (W, C_out)  w[ky, kx] (C_out, C_in)
    gw[ky, kx] (C_out, C_in)   =  sum over n, iy of gy[oy, kx::KW]^T (C_out, W)  x[iy] (W, C_in).

The columns of the results are cut into blocks of one or two vectors. A thread takes a *band* of image rows at a time
and runs through the blocks, so that it finds the band in its cache again for each block.
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import lanes_of
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.gemm import multiply, multiply_transposed
from .._cpu.strided import strided
from .._shared.geometry import Geometry, Pair

BAND_BYTES = 300_000  # of x or gy: with the weights of one block they fit into a core's L2 cache


def covers(large: Pair, small: Pair, columns: int, dtype: np.dtype, geometry: Geometry, kernel_size: Pair) -> bool:
    """True if patches neither overlap nor leave gaps, and the columns of the result fill whole vectors.

    large, small: the sizes (height, width) of y and x.
    """
    fills = large == (small[0] * kernel_size[0], small[1] * kernel_size[1])
    return fills and geometry == Geometry(stride=kernel_size) and columns % lanes_of(dtype) == 0


def block_width(columns: int, dtype: np.dtype) -> int:
    """Two vectors if they divide the columns, else one."""
    lanes = lanes_of(dtype)
    return 2 * lanes if columns % (2 * lanes) == 0 else lanes


def band_of(rows: int, row_bytes: int) -> int:
    """The number of image rows in a band: as many as fit into the cache, but a band for each thread."""
    return max(1, min(BAND_BYTES // max(1, row_bytes), -(-rows // numba.get_num_threads())))


def by_tap(gy: np.ndarray, kernel_size: Pair) -> np.ndarray:
    """The view (row of x, ky, kx, ix, co) of gy; a channel slice stays one."""
    n, height, width, c_out = gy.shape
    kh, kw = kernel_size
    return gy.reshape(n * height // kh, kh, width // kw, kw, c_out).transpose(0, 1, 3, 2, 4)


# ------------------------------------------------------------------------------------- the kernels
def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """y[n, iy KH + ky, ix KW + kx, co] = b[co] + sum over ci of x[n, iy, ix, ci] w[ky, kx, co, ci]."""
    n, height, width, c_in = x.shape
    kh, kw, c_out, _ = w.shape
    block = block_width(kw * c_out, x.dtype)
    weights = np.ascontiguousarray(w.reshape(kh, -1, block, c_in).transpose(1, 0, 3, 2))
    bias = np.zeros(kw * c_out, x.dtype) if b is None else np.tile(b, kw)
    y = memory.empty((n, height * kh, width * kw, c_out), x.dtype)
    rows = np.ascontiguousarray(x).reshape(n * height, width, c_in)
    band = band_of(len(rows), width * c_in * x.itemsize)
    _forward(rows, weights, bias.reshape(-1, block), band, y.reshape(n * height, kh, width, kw * c_out))
    return y


def backward_input(gy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over ky, kx, co of gy[n, iy KH + ky, ix KW + kx, co] w[ky, kx, co, ci]."""
    n, large_height, large_width, c_out = gy.shape
    kh, kw, _, c_in = w.shape
    block = block_width(c_in, gy.dtype)
    weights = np.ascontiguousarray(w.reshape(kh, kw, c_out, -1, block).transpose(3, 0, 1, 2, 4))
    gx = memory.empty((n, large_height // kh, large_width // kw, c_in), gy.dtype)
    g = by_tap(gy, (kh, kw))
    band = band_of(len(g), kh * large_width * c_out * gy.itemsize)
    _backward_input(g, weights, band, gx.reshape(len(g), large_width // kw, c_in))
    return gx


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair) -> np.ndarray:
    """gw[ky, kx, co, ci] = sum over n, iy, ix of gy[n, iy KH + ky, ix KW + kx, co] x[n, iy, ix, ci]."""
    n, height, width, c_in = x.shape
    g = by_tap(gy, kernel_size)
    sums = np.zeros((numba.get_num_threads(), *kernel_size, gy.shape[3], c_in), x.dtype)
    rows = np.ascontiguousarray(x).reshape(n * height, width, c_in)
    band = band_of(len(g), width * (c_in + kernel_size[0] * kernel_size[1] * gy.shape[3]) * x.itemsize)
    _backward_weight(rows, g, block_width(c_in, x.dtype), band, sums)
    return sums.sum(axis=0)


# ------------------------------------------------------------------------------------- the loops
@jit(separate=True)
def _forward_band(task, all_x, weights, bias, band, all_y):
    part = slice(task * band, (task + 1) * band)
    (blocks, kh, _, width), x, y = weights.shape, all_x[part], all_y[part]
    for k in range(blocks):
        for ky in range(kh):
            for row in range(len(x)):
                multiply(x[row], weights[k, ky], bias[k], y[row, ky, :, k * width : (k + 1) * width])


@jit
def _forward(x, weights, bias, band, y):
    in_parallel(_forward_band, (len(x) + band - 1) // band, (x, weights, bias, band, y))


@jit(separate=True)
def _backward_input_band(task, all_g, weights, band, all_gx):
    part = slice(task * band, (task + 1) * band)
    (blocks, kh, _, _, width), g, gx = weights.shape, all_g[part], all_gx[part]
    zeros = strided(np.zeros(width, gx.dtype), (gx.shape[1], width), (0, gx.itemsize))  # one row, seen as many
    for k in range(blocks):
        for row in range(len(g)):
            start, target = zeros, gx[row, :, k * width : (k + 1) * width]
            for ky in range(kh):
                multiply(g[row, ky], weights[k, ky], start, target)
                start = target


@jit
def _backward_input(g, weights, band, gx):
    in_parallel(_backward_input_band, (len(g) + band - 1) // band, (g, weights, band, gx))


@jit(separate=True)
def _add_band(x, g, width, total):
    kh, kw, _, c_in = total.shape
    for ky in range(kh):
        for kx in range(kw):
            for c in range(0, c_in, width):
                part = total[ky, kx, :, c : c + width]
                multiply_transposed(g[:, ky, kx], x[:, :, c : c + width], part, part)


@jit(separate=True)
def _add_bands(thread, x, g, width, band, sums):
    threads, bands = len(sums), (len(x) + band - 1) // band
    first, end = share_of(thread, threads, bands)
    for task in range(first, end):
        first = task * band
        _add_band(x[first : first + band], g[first : first + band], width, sums[thread])


@jit
def _backward_weight(x, g, width, band, sums):
    in_parallel(_add_bands, len(sums), (x, g, width, band, sums))
