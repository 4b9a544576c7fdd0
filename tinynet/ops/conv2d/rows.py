"""conv2d, `rows`: plain Numba, arranged so that the compiler finds the vector units by itself. The second rung.

`naive` adds up one result at a time, and each addition waits for the one before. Here the innermost loop runs over
*neighbouring channels*, which are different results: nothing waits, and LLVM turns the loop into vector
instructions (16 float32 at a time with AVX-512, 8 with AVX2, 4 on ARM). One number of `a` meets a row of `b`:

    c[r, :] += a[r, k] b[k, :]

Per vector that loads two (b and c) and stores one (c) for a single multiply-add. A core has room for two
multiply-adds in the time of two loads and one store, so half of it stays idle at best. Hence eight terms at once,

    c[r, :] += a[r, k] b[k, :] + a[r, k+1] b[k+1, :] + ... + a[r, k+7] b[k+7, :]

and c is loaded and stored once for eight multiply-adds: 9/8 loads and 1/8 store for each. (The eight numbers of a
are spread over registers before the loop; the fewer channels there are, the more that weighs.) What is left is the
load of b. To share that, several rows of c must stay in registers, which no compiler does unasked: see `blocked`.

All three kernels are such sums. A row of an image is a matrix, pixels x channels, and for each tap

    forward           row of y (ox, co)    +=  row of x (ix, ci)   times  w[ky, kx] (ci, co)
    backward_input    row of gx (ix, ci)   +=  row of gy (ox, co)  times  w[ky, kx] transposed (co, ci)
    backward_weight   gw[ky, kx] (ci, co)  +=  row of x transposed (ci, ix)  times  row of gy (ox, co)

in which only the pixels that do meet through this tap take part (`geometry.axis_taps`). So there is no padding to
write out, and strides, dilations and groups change only where rows begin and how far apart they are.

Nothing here depends on the machine: this is the implementation for processors on which `blocked` has not the
registers it counts on, and the one to start a new kernel from.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from ...backends.out import contiguous_result, delivered
from .geometry import Pair, axis_taps, output_size

# backward_weight sums this many pixels before it adds them to the total: rounding errors then grow with the number
# of such parts, not of pixels. Few enough that their rows of x and gy stay in the cache for all taps.
PIXELS_OF_A_PART = 1024


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
    """y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of x[n, iy, ix, ci] w[ky, kx, ci, co]."""
    size = output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)
    y = contiguous_result((len(x), *size, w.shape[3]), x.dtype, out)
    y[...] = 0 if b is None else b
    columns = _columns(x.shape[2], w.shape[1], size[1], stride[1], padding[1], dilation[1])
    arrays = (_by_group(array, groups) for array in (x, w, y))
    _forward(*arrays, columns, stride, padding[0], dilation[0])
    return delivered(y, out)


def backward_input(
    gy: np.ndarray,
    w: np.ndarray,
    *,
    input_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over co and all (oy, ky), (ox, kx) that read this pixel of gy w."""
    gx = contiguous_result((len(gy), *input_size, w.shape[2] * groups), gy.dtype, out)
    gx[...] = 0
    columns = _columns(input_size[1], w.shape[1], gy.shape[2], stride[1], padding[1], dilation[1])
    # (KH, KW, C_in / groups, groups, C_out / groups), then with input and output channels exchanged.
    w_exchanged = np.ascontiguousarray(_by_group(w, groups).transpose(0, 1, 4, 3, 2))
    _backward_input(_by_group(gy, groups), w_exchanged, _by_group(gx, groups), columns, stride, padding[0], dilation[0])
    return delivered(gx, out)


def backward_weight(
    x: np.ndarray,
    gy: np.ndarray,
    *,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
    shape = (*kernel_size, x.shape[3] // groups, gy.shape[3])
    sums = np.zeros((numba.get_num_threads(), *shape), x.dtype)  # each thread has a total of its own
    columns = _columns(x.shape[2], kernel_size[1], gy.shape[2], stride[1], padding[1], dilation[1])
    arrays = (_by_group(array, groups) for array in (x, gy, sums, np.empty_like(sums[:, 0, 0])))
    _backward_weight(*arrays, columns, stride, padding[0], dilation[0])
    return np.sum(sums, axis=0, out=out)


def _by_group(array: np.ndarray, groups: int) -> np.ndarray:
    """(..., channels) -> (..., groups, channels of a group), contiguous."""
    return np.ascontiguousarray(array).reshape(*array.shape[:-1], groups, array.shape[-1] // groups)


def _columns(*axis: int) -> np.ndarray:
    """For each tap kx that meets any pixel of a row: kx, the outputs ox = first .. stop - 1, and ix of the first."""
    taps = [(kx, ox.start, ox.stop, ix.start) for kx, ox, ix in axis_taps(*axis)]
    return np.array(taps, np.int64).reshape(-1, 4)


# Numba's "contract" lets a multiplication and an addition become one instruction, with one rounding instead of two.
@jit(fastmath={"contract"})
def _add_products(c, c_step, a, b):
    """c[r c_step, g, j] += sum over k of a[r, g, k] b[k, g, j].

    One matrix product for each group g. b and c are contiguous, a has any strides; c overlaps neither.
    """
    rows, groups, terms = a.shape
    unrolled = terms // 8 * 8
    channels = c.shape[2]
    for g in range(groups):
        for k in range(0, unrolled, 8):
            for r in range(rows):
                a0, a1, a2, a3 = a[r, g, k], a[r, g, k + 1], a[r, g, k + 2], a[r, g, k + 3]
                a4, a5, a6, a7 = a[r, g, k + 4], a[r, g, k + 5], a[r, g, k + 6], a[r, g, k + 7]
                for j in range(channels):
                    c[r * c_step, g, j] += (
                        a0 * b[k, g, j]
                        + a1 * b[k + 1, g, j]
                        + a2 * b[k + 2, g, j]
                        + a3 * b[k + 3, g, j]
                        + a4 * b[k + 4, g, j]
                        + a5 * b[k + 5, g, j]
                        + a6 * b[k + 6, g, j]
                        + a7 * b[k + 7, g, j]
                    )
        for k in range(unrolled, terms):  # up to seven that are left over
            for r in range(rows):
                a0 = a[r, g, k]
                for j in range(channels):
                    c[r * c_step, g, j] += a0 * b[k, g, j]


# Each kernel is a loop over rows or bands that the threads share, and a function for one of them.
@jit(parallel=True)
def _forward(x, w, y, columns, stride, padding_y, dilation_y):
    n_images, oh = y.shape[:2]
    for task in prange(n_images * oh):
        _row_of_y(x, w, y, columns, stride, padding_y, dilation_y, task // oh, task % oh)


@jit
def _row_of_y(x, w, y, columns, stride, padding_y, dilation_y, n, oy):
    for ky in range(w.shape[0]):
        iy = oy * stride[0] + ky * dilation_y - padding_y
        if 0 <= iy < x.shape[1]:
            for t in range(len(columns)):
                kx, first, stop, ix = columns[t, 0], columns[t, 1], columns[t, 2], columns[t, 3]
                seen = x[n, iy, ix : ix + (stop - first) * stride[1] : stride[1]]
                _add_products(y[n, oy, first:stop], 1, seen, w[ky, kx])


@jit(parallel=True)
def _backward_input(gy, w, gx, columns, stride, padding_y, dilation_y):
    n_images, height = gx.shape[:2]
    for task in prange(n_images * height):
        _row_of_gx(gy, w, gx, columns, stride, padding_y, dilation_y, task // height, task % height)


@jit
def _row_of_gx(gy, w, gx, columns, stride, padding_y, dilation_y, n, iy):
    for ky in range(w.shape[0]):
        oy, rest = divmod(iy + padding_y - ky * dilation_y, stride[0])
        if rest == 0 and 0 <= oy < gy.shape[1]:
            for t in range(len(columns)):
                kx, first, stop, ix = columns[t, 0], columns[t, 1], columns[t, 2], columns[t, 3]
                _add_products(gx[n, iy, ix:], stride[1], gy[n, oy, first:stop], w[ky, kx])


@jit(parallel=True)
def _backward_weight(x, gy, sums, parts, columns, stride, padding_y, dilation_y):
    n_images, oh, ow = gy.shape[:3]
    threads = len(sums)
    band = max(1, PIXELS_OF_A_PART // max(1, ow))  # output rows
    bands = (oh + band - 1) // band
    tasks = n_images * bands
    for thread in prange(threads):
        for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
            n, oy = task // bands, task % bands * band
            rows = range(oy, min(oy + band, oh))
            _band_of_gw(x, gy, sums[thread], parts[thread], columns, stride, padding_y, dilation_y, n, rows)


@jit
def _band_of_gw(x, gy, gw, part, columns, stride, padding_y, dilation_y, n, rows):
    """gw += what the output rows `rows` of image n contribute; `part` is scratch memory."""
    for ky in range(gw.shape[0]):
        for t in range(len(columns)):
            kx, first, stop, ix = columns[t, 0], columns[t, 1], columns[t, 2], columns[t, 3]
            part[...] = 0
            for oy in rows:
                iy = oy * stride[0] + ky * dilation_y - padding_y
                if 0 <= iy < x.shape[1]:
                    seen = x[n, iy, ix : ix + (stop - first) * stride[1] : stride[1]]
                    _add_products(part, 1, seen.T, gy[n, oy, first:stop])
            for ci in range(gw.shape[2]):
                for g in range(gw.shape[3]):
                    for j in range(gw.shape[4]):
                        gw[ky, kx, ci, g, j] += part[ci, g, j]
