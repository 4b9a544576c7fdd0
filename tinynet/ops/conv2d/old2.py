"""conv2d, `blocked`: any kernel size, stride, padding, dilation and groups, as matrix products of views.

For one row of outputs and one row ky of the kernel, the elements that meet are a matrix A[ky]: its row ox holds the
KW C_in neighbors from pixel ox * stride on. These rows overlap, and no element is copied: A[ky] is the image row, seen
with other strides.

    image row    p0 p1 p2 p3 p4 p5 ...      KW = 3, stride 1
    A[ky]        p0 p1 p2                   row ox = 0
                    p1 p2 p3                row ox = 1           y[oy] = bias + sum over ky of A[ky] w[ky]
                       p2 p3 p4             ...

backward_weight has the same matrices, transposed: gw[ky] = sum over oy of A[oy]^T gy[oy]. backward_input is a forward
pass with other weights; with a stride, one such pass for each *phase* of the input pixels (derivation.md). Only a
*band* is copied: some image rows with their padding written out, so that no index can leave the image.

With dilation or groups, the taps of a kernel row are not neighbors: the sum over kx comes in KW *pieces*.
The padding takes part in the sums: a NaN in w or gy may reach more results at the border than by the definition.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import VECTOR_BYTES
from ...backends.numba.tasks import in_parallel
from .._cpu.gemm import blocks_of, multiply, multiply_transposed
from .._cpu.parts import whole
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, Pair, phase
from .epilogue import Activation, activate

BAND_BYTES = 400_000  # of input per band: with the weights of one block it fits into a core's L2 cache


class Steps(NamedTuple):
    """Along y and x: i = o * stride + k * dilation - padding, and output o is pixel first + o * apart of the result."""

    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    dilation_y: int
    dilation_x: int
    first_y: int = 0
    first_x: int = 0
    apart_y: int = 1
    apart_x: int = 1


# ------------------------------------------------------------------------------------- the loops over bands
@jit
def rows_of(band, steps, kernel_height):
    """The number of output rows that a band of input rows is for."""
    return (band.shape[0] - (kernel_height - 1) * steps.dilation_y - 1) // steps.stride_y + 1


@jit(separate=True)
def load_band(image, first, steps, band):
    """band = the pixels that the output rows from `first` on need, with zeros where they leave the image."""
    height, width, channels = image.shape
    y, x = first * steps.stride_y - steps.padding_y, -steps.padding_x
    left, right = min(max(0, -x), band.shape[1]), min(max(0, width - x), band.shape[1])
    for i in range(band.shape[0]):
        if 0 <= y + i < height:
            band[i, :left] = 0
            band[i, right:] = 0
            row, target = image[y + i].reshape(-1), band[i].reshape(-1)
            for k in range(left * channels, right * channels):
                target[k] = row[x * channels + k]
        else:
            band[i] = 0


@jit(inline="always")
def windows(band, shape, row_step, pixel_step):
    """The view A[row, pixel, k] of a band: rows and pixels are so many apart, k counts neighboring elements."""
    return as_strided(band, shape, (row_step * band.strides[0], pixel_step * band.strides[1], band.itemsize))


@jit(separate=True)
def correlate_band(band, steps, w, bias, y):
    """y (rows, OW, channels) = bias + the correlation of a band with one group and block of the weights.

    band: the channels of the group. w: (piece, ky, k, column). bias: (padded width, column). Pixels and columns beyond
    those of y are padding.
    """
    pieces, kh, k, _ = w.shape
    tile, is_padded = np.empty(bias.shape, y.dtype), y.shape[1:] != bias.shape
    for row in range(len(y)):
        target = tile if is_padded else y[row]
        start = bias
        for piece in range(pieces):
            window = band[row * steps.stride_y :, piece * steps.dilation_x :]
            A = windows(window, (kh, len(bias), k), steps.dilation_y, steps.stride_x)
            multiply(A, w[piece], start, target)
            start = target
        if is_padded:
            for ox in range(y.shape[1]):
                for c in range(y.shape[2]):
                    y[row, ox, c] = tile[ox, c]


@jit(separate=True)
def correlate_bands(thread, x, filters, result, steps, bands_of_threads, activation):
    """What one thread does: its share of the bands of all images."""
    (w, bias), band, threads = filters, bands_of_threads[thread], len(bands_of_threads)
    groups, blocks, _, kh, _, width = w.shape
    y = result[:, steps.first_y :: steps.apart_y, steps.first_x :: steps.apart_x]
    images, oh, ow, c_out = y.shape
    i_group, o_group, rows = x.shape[3] // groups, c_out // groups, rows_of(band, steps, kh)
    bands = (oh + rows - 1) // rows  # of an image
    for task in range(thread * images * bands // threads, (thread + 1) * images * bands // threads):
        n, first = task // bands, task % bands * rows
        last = min(first + rows, oh)
        load_band(x[n], first, steps, band)
        for group in range(groups):
            for block in range(blocks):
                o = group * o_group + block * width
                channels = slice(o, min(o + width, (group + 1) * o_group))
                inputs, outputs = band[:, :, group * i_group :], y[n, first:last, :, channels]
                correlate_band(inputs, steps, w[group, block], bias[group, block], outputs)
        if activation.elu or activation.dropout:
            activate(result.reshape(-1), (n * oh + first) * ow * c_out, (n * oh + last) * ow * c_out, activation)


@jit
def correlate_all(x, filters, result, steps, band, activation):
    in_parallel(correlate_bands, len(band), (x, filters, result, steps, band, activation))


@jit(separate=True)
def accumulate_bands(thread, x, gy, gw_of_threads, steps, bands_of_threads):
    """What one thread does: gw (groups, KH, pieces, k, channels) of its share of the bands of all images."""
    gw, band, threads = gw_of_threads[thread], bands_of_threads[thread], len(bands_of_threads)
    groups, kh, pieces, k, o_group = gw.shape
    images, oh, ow, _ = gy.shape
    i_group, width, rows = x.shape[3] // groups, min(o_group, 2 * VECTOR_BYTES // gw.itemsize), rows_of(band, steps, kh)
    bands = (oh + rows - 1) // rows
    gw[:] = 0
    for task in range(thread * images * bands // threads, (thread + 1) * images * bands // threads):
        n, first = task // bands, task % bands * rows
        last = min(first + rows, oh)
        load_band(x[n], first, steps, band)
        for group in range(groups):
            for ky in range(kh):
                for piece in range(pieces):
                    window = band[ky * steps.dilation_y :, piece * steps.dilation_x :, group * i_group :]
                    A = windows(window, (last - first, ow, k), steps.stride_y, steps.stride_x)
                    for channel in range(0, o_group, width):
                        o = group * o_group + channel
                        total = gw[group, ky, piece, :, channel : channel + width]
                        multiply_transposed(A, gy[n, first:last, :, o : o + width], total, total)


@jit
def accumulate_all(x, gy, gw, steps, band):
    in_parallel(accumulate_bands, len(band), (x, gy, gw, steps, band))


# ------------------------------------------------------------------------------------- the kernels
def forward(x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
    """y[n, oy, ox, co] = epilogue(b[co] + sum over ky, kx, ci of x[n, iy, ix, ci] w[ky, kx, ci, co])."""
    x = whole(x)
    size = geometry.output_size(x.shape[1:3], w.shape[:2])
    y = memory.empty((len(x), *size, w.shape[3]), x.dtype)
    steps = Steps(*geometry.stride, *geometry.padding, *geometry.dilation)
    correlate(x, w.reshape(*w.shape[:3], geometry.groups, -1), b, y, steps, epilogue)
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over co and all (oy, ky), (ox, kx) that read this pixel of gy w."""
    kh, kw, i_group, c_out = w.shape
    stride, padding, dilation, groups = geometry
    gy = whole(gy)
    gx = memory.empty((len(gy), *input_size, i_group * groups), gy.dtype)
    exchanged = w.reshape(kh, kw, i_group, groups, c_out // groups).transpose(0, 1, 4, 3, 2)
    for a in range(min(stride[0], input_size[0])):
        rows = phase(a, kh, stride[0], padding[0], dilation[0])
        for b in range(min(stride[1], input_size[1])):
            columns = phase(b, kw, stride[1], padding[1], dilation[1])
            if rows.taps and columns.taps:
                taps = exchanged[rows.taps][:, columns.taps]
                steps = Steps(1, 1, rows.padding, columns.padding, rows.dilation, columns.dilation, a, b, *stride)
                correlate(gy, taps, None, gx, steps, PLAIN)
            else:
                gx[:, a :: stride[0], b :: stride[1]] = 0  # no tap reaches these pixels
    return gx


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
    x, (kh, kw), groups = whole(x), kernel_size, geometry.groups
    i_group, o_group = x.shape[3] // groups, gy.shape[3] // groups
    width, blocks = blocks_of(o_group, x.dtype)
    if blocks * width > o_group:  # channels that do not fill the blocks: pad with zeros
        padded = np.zeros((*gy.shape[:3], groups, blocks * width), gy.dtype)
        padded[..., :o_group] = gy.reshape(*gy.shape[:3], groups, o_group)
        gy = padded.reshape(*gy.shape[:3], groups * blocks * width)
    steps = Steps(*geometry.stride, *geometry.padding, *geometry.dilation)
    pieces = 1 if groups == steps.dilation_x == 1 else kw
    band = new_bands(x, gy.shape[1:3], kernel_size, steps)
    gw = np.empty((len(band), groups, kh, pieces, kw // pieces * i_group, blocks * width), x.dtype)
    accumulate_all(x, whole(gy), gw, steps, band)
    total = gw.sum(axis=0).reshape(groups, kh, kw, i_group, -1)[..., :o_group]
    return np.ascontiguousarray(total.transpose(1, 2, 3, 0, 4)).reshape(kh, kw, i_group, -1)


def correlate(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None, y: np.ndarray, steps: Steps, epilogue: Epilogue
) -> None:
    """y, in the pixels that the steps name, = epilogue(b + correlation of x with w).

    w: (KH, KW, C_in / groups, groups, C_out / groups). Each row is computed up to a multiple of 4 pixels, because a
    register block of a single pixel takes as long as one of 4.
    """
    kh, kw, _, groups, o_group = w.shape
    width, blocks = blocks_of(o_group, x.dtype)
    pieces = 1 if groups == steps.dilation_x == 1 else kw
    rows = len(range(steps.first_y, y.shape[1], steps.apart_y))
    columns = -(-len(range(steps.first_x, y.shape[2], steps.apart_x)) // 4) * 4
    padded, bias = np.zeros((*w.shape[:4], blocks * width), x.dtype), np.zeros((groups, blocks * width), x.dtype)
    padded[..., :o_group] = w
    bias[:, :o_group] = 0 if b is None else b.reshape(groups, o_group)
    # In the order in which the loops read it: group, block, piece, ky, k, column.
    by_block = padded.reshape(kh, pieces, -1, groups, blocks, width).transpose(3, 4, 1, 0, 2, 5)
    repeated = np.broadcast_to(bias.reshape(groups, blocks, 1, width), (groups, blocks, columns, width))
    filters, band = (np.ascontiguousarray(by_block), repeated), new_bands(x, (rows, columns), (kh, kw), steps)
    correlate_all(x, filters, y, steps, band, Activation.of(epilogue, x.dtype))


def new_bands(x: np.ndarray, outputs: Pair, kernel: Pair, steps: Steps) -> np.ndarray:
    """An uninitialized band for each thread: (threads, rows, columns, channels), as many rows as fit into the cache."""
    columns = (outputs[1] - 1) * steps.stride_x + (kernel[1] - 1) * steps.dilation_x + 1
    extra = (kernel[0] - 1) * steps.dilation_y + 1 - steps.stride_y
    fitting = (BAND_BYTES // (columns * x.shape[3] * x.itemsize) - extra) // steps.stride_y
    rows = max(1, min(outputs[0], fitting))
    return memory.empty((numba.get_num_threads(), rows * steps.stride_y + extra, columns, x.shape[3]), x.dtype)
