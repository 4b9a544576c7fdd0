"""conv2d, `depthwise`: every channel is a group of its own, as in MobileNet and EfficientNet.

There is no sum over channels, so there is no matrix product: the lanes of a vector are neighboring channels, and each
of them adds up its own KH KW products:

    y[n, oy, ox, c] = b[c] + sum over ky, kx of x[n, iy, ix, c] w[ky, kx, c]

That would be one load of x and one of w for each multiply-add. So four neighboring outputs are computed together: a
weight is loaded once for all four, and a pixel that several of them read is loaded once, too. The compiler sees that
only if it knows the kernel size and the stride along the row, so the loops are compiled for each of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.parts import whole
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, Pair
from .epilogue import finish


def forward(x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
    """y[n, oy, ox, c] = epilogue(b[c] + sum over ky, kx of x[n, iy, ix, c] w[ky, kx, 0, c])."""
    x = whole(x)
    y = memory.empty((len(x), *geometry.output_size(x.shape[1:3], w.shape[:2]), w.shape[3]), x.dtype)
    start = np.zeros(w.shape[3], x.dtype) if b is None else whole(b)
    _correlate(*w.shape[:2], geometry.stride[1])(x, whole(w)[:, :, 0], start, geometry[:2], y)
    finish(y, epilogue)
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx[n, iy, ix, c] = sum over the taps through which y reads this pixel of gy[n, oy, ox, c] w[ky, kx, 0, c]."""
    gx = memory.empty((len(gy), *input_size, gy.shape[3]), gy.dtype)
    if geometry.stride == (1, 1):  # a correlation, too, with the kernel rotated by 180 degrees
        padding = tuple(k - 1 - p for k, p in zip(w.shape, geometry.padding))
        start = np.zeros(w.shape[3], gy.dtype)
        _correlate(*w.shape[:2], 1)(whole(gy), whole(w[::-1, ::-1, 0]), start, ((1, 1), padding), gx)
    else:
        _backward_input(whole(gy), whole(w)[:, :, 0], geometry[:2], gx)
    return gx


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gw[ky, kx, 0, c] = sum over n, oy, ox of x[n, iy, ix, c] gy[n, oy, ox, c]."""
    sums = np.zeros((numba.get_num_threads(), *kernel_size, x.shape[3]), x.dtype)
    _accumulate(*kernel_size, geometry.stride[1])(whole(x), whole(gy), geometry[:2], sums)
    return sums.sum(axis=0)[:, :, None]


@jit
def interior(size, outputs, kernel, stride, padding):
    """(first, end): the outputs whose taps all lie in the image, for one axis."""
    first = (padding + stride - 1) // stride
    last = (size + padding - kernel) // stride
    return min(first, outputs), max(min(last + 1, outputs), min(first, outputs))


@jit
def border_output(image, w, start, top, left, result):
    """One output at the border: the taps outside of the image are left out."""
    height, width, channels = image.shape
    result[:] = start
    for ky in range(w.shape[0]):
        for kx in range(w.shape[1]):
            iy, ix = top + ky, left + kx
            if 0 <= iy < height and 0 <= ix < width:
                for c in range(channels):
                    result[c] += image[iy, ix, c] * w[ky, kx, c]


@jit
def add_border_output(image, g, top, left, total):
    """total (KH, KW, C) += what one output at the border contributes to the gradient of the weights."""
    height, width, channels = image.shape
    for ky in range(total.shape[0]):
        for kx in range(total.shape[1]):
            iy, ix = top + ky, left + kx
            if 0 <= iy < height and 0 <= ix < width:
                for c in range(channels):
                    total[ky, kx, c] += image[iy, ix, c] * g[c]


@functools.cache
def _correlate(kh: int, kw: int, sx: int) -> Callable:
    """y = start + the correlation of x with w (KH, KW, C). steps: stride and padding, as pairs (y, x)."""

    @jit(fastmath=ELEMENTWISE)
    def four_outputs(image, w, start, top, left, results):
        for c in range(image.shape[2]):
            t0, t1, t2, t3 = start[c], start[c], start[c], start[c]
            for ky in range(kh):
                for kx in range(kw):
                    iy, ix, weight = top + ky, left + kx, w[ky, kx, c]
                    t0 += image[iy, ix, c] * weight
                    t1 += image[iy, ix + sx, c] * weight
                    t2 += image[iy, ix + 2 * sx, c] * weight
                    t3 += image[iy, ix + 3 * sx, c] * weight
            results[0, c], results[1, c], results[2, c], results[3, c] = t0, t1, t2, t3

    @jit(parallel=True)
    def correlate(x, w, start, steps, y):
        (sy, _), (py, px) = steps
        n_images, height, width, _ = x.shape
        first_y, end_y = interior(height, y.shape[1], kh, sy, py)
        first_x, end_x = interior(width, y.shape[2], kw, sx, px)
        for line in prange(n_images * y.shape[1]):
            n, oy = line // y.shape[1], line % y.shape[1]
            image, top, ox = x[n], oy * sy - py, 0
            while ox < y.shape[2]:
                if first_y <= oy < end_y and first_x <= ox and ox + 4 <= end_x:
                    four_outputs(image, w, start, top, ox * sx - px, y[n, oy, ox : ox + 4])
                    ox += 4
                else:
                    border_output(image, w, start, top, ox * sx - px, y[n, oy, ox])
                    ox += 1

    return correlate


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward_input(gy, w, steps, gx):
    """With a stride: each pixel looks for the outputs that read it."""
    (sy, sx), (py, px) = steps
    kh, kw, channels = w.shape
    for line in prange(gx.shape[0] * gx.shape[1]):
        n, iy = line // gx.shape[1], line % gx.shape[1]
        for ix in range(gx.shape[2]):
            result = gx[n, iy, ix]
            result[:] = 0
            for ky in range(kh):
                oy = iy + py - ky
                if oy % sy == 0 and 0 <= oy < gy.shape[1] * sy:
                    for kx in range(kw):
                        ox = ix + px - kx
                        if ox % sx == 0 and 0 <= ox < gy.shape[2] * sx:
                            pixel = gy[n, oy // sy, ox // sx]
                            for c in range(channels):
                                result[c] += pixel[c] * w[ky, kx, c]


@functools.cache
def _accumulate(kh: int, kw: int, sx: int) -> Callable:
    """sums[thread] (KH, KW, C) = the gradient of the weights over the thread's share of the rows of gy."""

    @jit(fastmath=ELEMENTWISE)
    def four_outputs(image, g, top, left, total):
        for ky in range(kh):
            for kx in range(kw):
                iy, ix = top + ky, left + kx
                for c in range(image.shape[2]):
                    total[ky, kx, c] += (
                        image[iy, ix, c] * g[0, c]
                        + image[iy, ix + sx, c] * g[1, c]
                        + image[iy, ix + 2 * sx, c] * g[2, c]
                        + image[iy, ix + 3 * sx, c] * g[3, c]
                    )

    @jit(parallel=True)
    def accumulate(x, gy, steps, sums):
        (sy, _), (py, px) = steps
        _, height, width, _ = x.shape
        lines, threads = gy.shape[0] * gy.shape[1], len(sums)
        first_y, end_y = interior(height, gy.shape[1], kh, sy, py)
        first_x, end_x = interior(width, gy.shape[2], kw, sx, px)
        for thread in prange(threads):
            of_line = np.empty(sums.shape[1:], x.dtype)  # a sum of its own: less rounding error
            for line in range(thread * lines // threads, (thread + 1) * lines // threads):
                n, oy = line // gy.shape[1], line % gy.shape[1]
                image, top, ox = x[n], oy * sy - py, 0
                of_line[:] = 0
                while ox < gy.shape[2]:
                    if first_y <= oy < end_y and first_x <= ox and ox + 4 <= end_x:
                        four_outputs(image, gy[n, oy, ox : ox + 4], top, ox * sx - px, of_line)
                        ox += 4
                    else:
                        add_border_output(image, gy[n, oy, ox], top, ox * sx - px, of_line)
                        ox += 1
                sums[thread] += of_line

    return accumulate
