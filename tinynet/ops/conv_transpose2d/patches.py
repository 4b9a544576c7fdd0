"""Transposed convolution whose kernel is as large as its stride: every pixel becomes a patch of its own.

As in a U-Net, where a pixel becomes 2 x 2. No two copies of the kernel overlap and none is cut off, so each row of y
belongs to one row of x and one row of the kernel, iy and ky: oy = iy KH + ky. In that row the KW C_out numbers painted
by one pixel lie side by side, (kx, co) being one index. So for each ky it is a product of two matrices,

    y[oy]  (W, KW C_out)  =  x[iy]  (W, C_in)  times  w[ky]  (C_in, KW C_out),      + bias, once for each kx

and the gradients are the two products that belong to it,

    gx[iy] (W, C_in)            =  sum over ky of           gy[oy] (W, KW C_out)  times  w[ky] (KW C_out, C_in)
    gw[ky] (KW C_out, C_in)     =  sum over n, iy of  gy[oy] transposed (KW C_out, W)  times  x[iy] (W, C_in).

All three run on the register blocks of `ops/simd.py`, and read x and gy in place, as rows at a fixed pitch. A matrix
whose size is no multiple of the block's: the last block starts early, and some numbers are computed twice.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from ...backends.out import contiguous_result, delivered
from .._cpu.old_simd import (
    REGISTER_BYTES,
    ROWS_OF_1,
    ROWS_OF_2,
    block_1x1,
    block_1x2,
    block_of_1,
    block_of_2,
    lanes_of,
)
from .._cpu.prefetch import LINE, prefetch
from .._cpu.register_rows import add_rows
from .._shared.layout import rows_of
from ..conv2d.geometry import Pair

BAND_BYTES = 300_000  # of x and gy per task: they are read again for each block, so they should stay in the L2 cache


# ------------------------------------------------------------------------------------- the kernels
def covers(large: Pair, small: Pair, lanes_of_result: int, dtype: np.dtype, kernel_size: Pair, geometry: dict) -> bool:
    """Whether these functions can compute it: patches that neither overlap nor leave gaps, and one full vector.

    large, small: the sizes (height, width) of y and x. lanes_of_result: how many neighbouring numbers there are in a
    row of the matrix that is computed. Where the processor has no vectors to cut blocks for, the general way is faster.
    """
    return bool(
        REGISTER_BYTES
        and kernel_size == geometry["stride"]
        and geometry["padding"] == (0, 0)
        and geometry["dilation"] == (1, 1)
        and geometry["groups"] == 1
        and large == (small[0] * kernel_size[0], small[1] * kernel_size[1])
        and lanes_of_result >= lanes_of(dtype)
    )


def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, out: np.ndarray | None) -> np.ndarray:
    """y[n, iy KH + ky, ix KW + kx, co] = b[co] + sum over ci of x[n, iy, ix, ci] w[ky, kx, co, ci]."""
    n, height, width, c_in = x.shape
    kh, kw, c_out, _ = w.shape
    y = contiguous_result((n, height * kh, width * kw, c_out), x.dtype, out)
    flat, pitch = rows_of(x, c_in)
    columns = _Columns(kw * c_out, x.dtype)
    weights = columns.cut(w.reshape(kh, kw * c_out, c_in).transpose(0, 2, 1))
    bias = np.zeros(kw * c_out, x.dtype) if b is None else np.tile(b, kw)
    band = _band(height, width * c_in * x.itemsize)
    sums = (c_in, 1, 1), (0, 0)
    _multiply(
        flat, pitch, width * pitch, *sums, (n, height, width), band, kh, weights, columns.starts, columns.width,
        columns.lanes, bias, y.reshape(-1),
    )  # fmt: skip
    return delivered(y, out)


def backward_input(gy: np.ndarray, w: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over ky, kx, co of gy[n, iy KH + ky, ix KW + kx, co] w[ky, kx, co, ci]."""
    n, large_height, large_width, c_out = gy.shape
    kh, kw, _, c_in = w.shape
    height, width = large_height // kh, large_width // kw
    gx = contiguous_result((n, height, width, c_in), gy.dtype, out)
    flat, pitch = rows_of(gy, c_out)
    columns = _Columns(c_in, gy.dtype)
    weights = columns.cut(w.reshape(1, -1, c_in))
    band = _band(height, kh * large_width * c_out * gy.itemsize)
    row = large_width * pitch  # from one row of gy to the next
    # (kx, co) are one contiguous sum and ky the outer one, unless there is something between the pixels of gy.
    sums = ((kw * c_out, kh, 1), (row, 0)) if pitch == c_out else ((c_out, kw, kh), (pitch, row))
    _multiply(
        flat, kw * pitch, kh * row, *sums, (n, height, width), band, 1, weights, columns.starts, columns.width,
        columns.lanes, np.zeros(c_in, gy.dtype), gx.reshape(-1),
    )  # fmt: skip
    return delivered(gx, out)


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, out: np.ndarray | None) -> np.ndarray:
    """gw[ky, kx, co, ci] = sum over n, iy, ix of gy[n, iy KH + ky, ix KW + kx, co] x[n, iy, ix, ci]."""
    _, height, width, c_in = x.shape
    (kh, kw), c_out = kernel_size, gy.shape[3]
    columns = _Columns(c_in, x.dtype)
    sums = np.zeros((numba.get_num_threads(), kh * kw * c_out, len(columns.starts), columns.width), x.dtype)
    _backward_weight(
        *rows_of(gy, c_out), *rows_of(x, c_in), x.shape, (kh, kw, c_out), columns.starts, columns.width, columns.lanes,
        sums.reshape(len(sums), -1), _band(height, width * (c_in + kh * kw * c_out) * x.itemsize),
    )  # fmt: skip
    gw = np.empty((kh, kw, c_out, c_in), x.dtype) if out is None else out
    total = sums.sum(axis=0).reshape(kh, kw, c_out, len(columns.starts), columns.width)
    for k, start in enumerate(columns.starts):
        gw[..., start : start + columns.width] = total[..., k, :]
    return gw


class _Columns:
    """How the columns of a matrix are cut into blocks of one or two vectors; the last one may overlap another."""

    def __init__(self, count: int, dtype: np.dtype) -> None:
        self.lanes = lanes_of(dtype)
        self.width = 2 * self.lanes if count >= 2 * self.lanes else self.lanes
        self.starts = np.minimum(np.arange(0, count, self.width), count - self.width)

    def cut(self, matrices: np.ndarray) -> np.ndarray:
        """Flat, in the order in which the kernels read them: matrix, block, row, column in the block."""
        return np.stack([matrices[:, :, s : s + self.width] for s in self.starts], axis=1).reshape(-1)


def _band(height: int, row_bytes: int) -> int:
    """How many rows of x make a task."""
    return max(1, min(height, BAND_BYTES // row_bytes))


# ------------------------------------------------------------------------------------- the loops
@jit(parallel=True)
def _multiply(
    a, a_pixel, a_line, summed, a_steps, size, band, parts, weights, starts, block_width, lanes, bias, c
):  # fmt: skip
    """c[line, part, pixel, :] = bias + sum of a[line, pixel] weights[part], for the lines of all images.

    a_line, a_pixel: the distances of lines and pixels in a. summed: how many numbers are added up, as three nested
    loops, the innermost over neighbours in a; a_steps: the distances in a of the middle and the outermost loop.
    """
    n_images, height, width = size
    columns = bias.size
    bands = (height + band - 1) // band
    terms = summed[0] * summed[1] * summed[2]
    for task in prange(n_images * bands):
        n, first = task // bands, task % bands * band
        for part in range(parts):
            for k in range(starts.size):
                w0 = (part * starts.size + k) * terms * block_width
                for line in range(n * height + first, n * height + min(first + band, height)):
                    if part == 0 and k == 0 and line + 1 < n_images * height:  # later turns find it in the cache
                        _prefetch_line(a, (line + 1) * a_line, a_pixel, summed, a_steps, width)
                    _multiply_line(
                        a, line * a_line, a_pixel, summed, a_steps, width, weights, w0, block_width, lanes,
                        bias, starts[k], c, (line * parts + part) * width * columns + starts[k], columns,
                    )  # fmt: skip


@jit
def _prefetch_line(a, a0, a_pixel, summed, a_steps, pixels):
    """Ask for a line of `a` while the one before is multiplied: gaps between pixels hide the order of reading."""
    inner, middle, outer = summed
    for p in range(pixels):
        for s in range(outer):
            for m in range(middle):
                for i in range(0, inner, LINE):
                    prefetch(a, a0 + p * a_pixel + s * a_steps[1] + m * a_steps[0] + i)


@jit
def _multiply_line(
    a, a0, a_pixel, summed, a_steps, pixels, weights, w0, block_width, lanes, bias, column, c, c0, c_pixel
):  # fmt: skip
    """One line of the product, one block wide."""
    inner, middle, outer = summed
    two = block_width > lanes
    rows = ROWS_OF_2 if two else ROWS_OF_1
    if pixels < rows:
        rows = 1
    zeros = np.zeros(block_width, a.dtype)
    for p in range(0, pixels, rows):
        p = min(p, pixels - rows)  # the last block may overlap the one before
        for s in range(outer):
            block = (
                a, a0 + p * a_pixel + s * a_steps[1], a_pixel, 1, a_steps[0],
                weights, w0 + s * middle * inner * block_width, block_width, inner * block_width, inner, middle,
                bias if s == 0 else zeros, column if s == 0 else 0, c, c0 + p * c_pixel, c_pixel, s,
            )  # fmt: skip
            if rows == 1:
                if two:
                    block_1x2(*block)
                else:
                    block_1x1(*block)
            elif two:
                block_of_2(*block)
            else:
                block_of_1(*block)


@jit(parallel=True)
def _backward_weight(gy, gy_pitch, x, x_pitch, x_size, kernel, starts, block_width, lanes, sums, band):
    n_images, height, width, _ = x_size
    kh, kw, c_out = kernel
    bands = (height + band - 1) // band
    tasks = n_images * bands
    threads = len(sums)
    row = width * kw * gy_pitch
    # The rows of a block are neighbouring channels of gy: of all kx, unless there is something between its pixels.
    merged = gy_pitch == c_out
    taps, channels = (1, kw * c_out) if merged else (kw, c_out)
    c_row = starts.size * block_width
    zeros = np.zeros(block_width, x.dtype)
    for thread in prange(threads):
        total = sums[thread]
        for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
            n, first = task // bands, task % bands * band
            count = min(band, height - first)
            iy = n * height + first
            for ky in range(kh):
                for kx in range(taps):
                    a0 = (iy * kh + ky) * row + kx * gy_pitch
                    c0 = (ky * taps + kx) * channels * c_row
                    for k in range(starts.size):
                        b0 = iy * width * x_pitch + starts[k]
                        add_rows(
                            channels, block_width // lanes, gy, a0, kw * gy_pitch, kh * row, x, b0, x_pitch,
                            width * x_pitch, width, count, zeros, total, c0 + k * block_width, c_row,
                        )  # fmt: skip
