"""conv3d, `blocked`: any kernel size, stride, padding and dilation of one group, as matrix products of views.

As in conv2d's `blocked`, a row of outputs is a sum of products A[kz, ky] w[kz, ky], where row j of A is the piece of
the input row that output j reads: a view. A vector has 16 lanes, and a volume in a 3-D U-Net often has 8 channels. So
neighboring outputs are computed as one output with more channels, as many as fit into a vector:

    KW = 3, stride 1, 8 channels:   outputs 2j and 2j + 1 read the inputs 2j - 1 .. 2j + 2

                      w of output 2j    w of output 2j + 1
        input 2j - 1  w[kx = 0]         0
        input 2j      w[kx = 1]         w[kx = 0]
        input 2j + 1  w[kx = 2]         w[kx = 1]         3/4 of the lanes are useful instead of 1/2
        input 2j + 2  0                 w[kx = 2]

The rows of x and y stay as they are in memory; only the weights are written out in this *widened* form. The same form
covers strides and dilations along x: they decide which weight stands where (`Row`). backward_input is a correlation of
gy, whose row form has the strides in the other role. Strides along z and y make phases, as in conv2d.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange
from numpy.lib.stride_tricks import as_strided

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import VECTOR_BYTES, lanes_of
from .._cpu.gemm import blocks_of, multiply, multiply_transposed
from .._cpu.parts import whole
from .._shared.geometry import Bias, Geometry, Triple, phase
from .oldrows import Row, Steps

WIDTH = 2 * VECTOR_BYTES  # bytes of the columns of a product
MOST_PIXELS = 4  # computed as one output: the more of them, the larger the part of the weights that is 0
BAND_BYTES = 300_000  # of input per band: with the weights it fits into a core's L2 cache


# ------------------------------------------------------------------------------------- the loops over bands
# x (N, D, H, W C_in) and y (N, OD, OH, OW C_out): a row of pixels is one run of elements.
@jit(separate=True)
def load_rows(image, first, start, band):
    """band = rows from `first` on of image (H, W C), elements from `start` on; zeros outside of the image."""
    height, length = image.shape
    left, right = min(max(0, -start), band.shape[1]), min(max(0, length - start), band.shape[1])
    for i in range(band.shape[0]):
        row = first + i
        if 0 <= row < height:
            band[i, :left] = 0
            band[i, right:] = 0
            inside, pixels = band[i, left:right], image[row, start + left : start + right]
            for e in range(len(inside)):
                inside[e] = pixels[e]
        else:
            band[i] = 0


@jit(separate=True)
def load_band(volume, oz, oy, steps, band):
    """band (KD, rows, elements) = the inputs of the output rows from oy on, in slice oz."""
    for kz in range(len(band)):
        z = oz * steps.stride_z + kz * steps.dilation_z - steps.padding_z
        if 0 <= z < len(volume):
            load_rows(volume[z], oy * steps.stride_y - steps.padding_y, steps.start, band[kz])
        else:
            band[kz] = 0


@jit(inline="always")
def windows(rows, shape, row_step, step):
    """The view A[row, j, k] of rows (row, element): rows and j are so many rows and elements apart."""
    return as_strided(rows, shape, (row_step * rows.strides[0], step * rows.itemsize, rows.itemsize))


@jit(separate=True)
def correlate_band(band, w, bias, steps, tile, y):
    """y (rows, OW C_out) = bias + the correlation of the band with w (block, KD, KH, k, column).

    tile: a row of outputs with padding, (groups of outputs, blocks * width). A row that needs none is not copied.
    """
    blocks, kd, kh, k, width = w.shape
    groups, columns = len(tile), steps.columns
    is_padded = columns != tile.shape[1] or groups * columns != y.shape[1]
    for row in range(len(y)):
        result = tile if is_padded else as_strided(y[row], tile.shape, (columns * y.itemsize, y.itemsize))
        for block in range(blocks):
            part = slice(block * width, (block + 1) * width)
            target = result[:, part]
            for kz in range(kd):
                A = windows(band[kz, row * steps.stride_y :], (kh, groups, k), steps.dilation_y, steps.step)
                if kz == 0:
                    multiply(A, w[block, kz], bias[part], target)
                else:
                    multiply(A, w[block, kz], target, target)
        if is_padded:
            for e in range(y.shape[1]):
                y[row, e] = tile[e // columns, e % columns]


@jit(separate=True)
def correlate_bands(share, x, filters, result, steps, band, tile):
    """What one thread does: its share, (thread, number of threads), of the bands of all slices."""
    w, bias = filters
    y = result[:, steps.first_z :: steps.apart_z, steps.first_y :: steps.apart_y]
    volumes, od, oh, _ = y.shape
    rows = rows_of(band, steps, w.shape[2])
    bands = (oh + rows - 1) // rows  # of a slice
    tasks = volumes * bands * od
    for task in range(share[0] * tasks // share[1], (share[0] + 1) * tasks // share[1]):
        n, oy, oz = task // od // bands, task // od % bands * rows, task % od
        load_band(x[n], oz, oy, steps, band)
        correlate_band(band, w, bias, steps, tile, y[n, oz, oy : oy + rows])


@jit(parallel=True)
def correlate_all(x, filters, result, steps, band, tile):
    for i in prange(len(band)):
        thread = np.int64(i)  # prange may give an unsigned index, and Numba would compile every callee twice
        correlate_bands((thread, len(band)), x, filters, result, steps, band[thread], tile[thread])


@jit
def rows_of(band, steps, kernel_height):
    """The number of output rows that a band is for."""
    return (band.shape[1] - (kernel_height - 1) * steps.dilation_y - 1) // steps.stride_y + 1


@jit(separate=True)
def accumulate_bands(share, x, gy, gw, steps, band, tile):
    """What one thread does: gw (KD, KH, k, column) of its share of the bands. tile: of gy (rows, groups, columns)."""
    kd, kh, k, c_out = gw.shape
    volumes, od, oh, _ = gy.shape
    rows, groups = rows_of(band, steps, kh), tile.shape[1]
    bands = (oh + rows - 1) // rows
    tasks, width = volumes * bands * od, min(c_out, WIDTH // gw.itemsize)
    gw[:] = 0
    tile[:] = 0
    for task in range(share[0] * tasks // share[1], (share[0] + 1) * tasks // share[1]):
        n, oy, oz = task // od // bands, task // od % bands * rows, task % od
        load_band(x[n], oz, oy, steps, band)
        count = min(rows, oh - oy)
        load_gradients(gy[n, oz, oy : oy + count], steps.columns, tile)
        for kz in range(kd):
            for ky in range(kh):
                A = windows(band[kz, ky * steps.dilation_y :], (count, groups, k), steps.stride_y, steps.step)
                for channel in range(0, c_out, width):
                    part = slice(channel, channel + width)
                    total = gw[kz, ky, :, part]
                    multiply_transposed(A, tile[:count, :, part], total, total)


@jit(separate=True)
def load_gradients(gy, columns, tile):
    """tile (rows, groups, columns) = rows of gy; what is beyond their end stays 0."""
    for row in range(len(gy)):
        for j in range(tile.shape[1]):
            pixels = gy[row, j * columns : (j + 1) * columns]
            for c in range(len(pixels)):
                tile[row, j, c] = pixels[c]


@jit(parallel=True)
def accumulate_all(x, gy, gw, steps, band, tile):
    for i in prange(len(band)):
        thread = np.int64(i)
        accumulate_bands((thread, len(band)), x, gy, gw[thread], steps, band[thread], tile[thread])


# ------------------------------------------------------------------------------------- the kernels
def forward(x: np.ndarray, w: np.ndarray, b: Bias, geometry: Geometry) -> np.ndarray:
    """y[n, oz, oy, ox, co] = b[co] + sum over kz, ky, kx, ci of x[n, iz, iy, ix, ci] w[kz, ky, kx, ci, co]."""
    y = memory.empty((len(x), *geometry.output_size(x.shape[1:4], w.shape[:3]), w.shape[4]), x.dtype)
    row = Row.forward(*_along_x(w.shape[2], geometry), pixels_of(y))
    (sz, sy, _), (pz, py, _), (dz, dy, _), _ = geometry
    _correlate(x, w, b, y, row, (sz, sy, pz, py, dz, dy, 0, 0, 1, 1))
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Triple, geometry: Geometry) -> np.ndarray:
    """gx[n, iz, iy, ix, ci] = sum over co and all taps (kz, ky, kx) through which y reads this voxel of gy w."""
    gx = memory.empty((len(gy), *input_size, w.shape[3]), gy.dtype)
    row, exchanged = Row.backward(*_along_x(w.shape[2], geometry), pixels_of(gx)), w.swapaxes(3, 4)
    (sz, sy, _), (pz, py, _), (dz, dy, _), _ = geometry
    for a in range(min(sz, input_size[0])):
        z = phase(a, len(w), sz, pz, dz)
        for b in range(min(sy, input_size[1])):
            y = phase(b, w.shape[1], sy, py, dy)
            if z.taps and y.taps:
                steps = 1, 1, z.padding, y.padding, z.dilation, y.dilation, a, b, sz, sy
                _correlate(gy, exchanged[z.taps][:, y.taps], None, gx, row, steps)
            else:
                gx[:, a::sz, b::sy] = 0  # no tap reaches these rows
    return gx


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Triple, geometry: Geometry) -> np.ndarray:
    """gw[kz, ky, kx, ci, co] = sum over n, oz, oy, ox of x[n, iz, iy, ix, ci] gy[n, oz, oy, ox, co]."""
    shape = (*kernel_size, x.shape[4], gy.shape[4])
    row = Row.forward(*_along_x(kernel_size[2], geometry), pixels_of(gy))
    (sz, sy, _), (pz, py, _), (dz, dy, _), _ = geometry
    steps = row.steps((sz, sy, pz, py, dz, dy, 0, 0, 1, 1), *shape[3:])
    groups, (width, blocks) = -(-gy.shape[3] // row.pixels), blocks_of(steps.columns, x.dtype)
    band = new_bands(x, groups, gy.shape[2], kernel_size, row, steps)
    rows = (band.shape[2] - (kernel_size[1] - 1) * dy - 1) // sy + 1
    tile = memory.empty((len(band), rows, groups, blocks * width), x.dtype)
    gw = memory.empty((len(band), *kernel_size[:2], row.taps * x.shape[4], blocks * width), x.dtype)
    accumulate_all(_rows(whole(x)), _rows(whole(gy)), gw, steps, band, tile)
    return row.narrowed(gw.sum(axis=0)[..., : steps.columns], shape)


def _correlate(x: np.ndarray, w: np.ndarray, b: Bias, y: np.ndarray, row: Row, along_z_and_y: tuple) -> None:
    """y, in the rows that the steps name, = b + the correlation of x with w."""
    steps, wide = row.steps(along_z_and_y, *w.shape[3:]), row.widened(w)
    groups, (width, blocks) = -(-y.shape[3] // row.pixels), blocks_of(steps.columns, x.dtype)
    padded, bias = np.zeros((*wide.shape[:3], blocks * width), x.dtype), np.zeros(blocks * width, x.dtype)
    padded[..., : steps.columns] = wide
    bias[: steps.columns] = 0 if b is None else np.tile(b, row.pixels)
    by_block = np.ascontiguousarray(padded.reshape(*wide.shape[:3], blocks, width).transpose(3, 0, 1, 2, 4))
    rows = len(range(steps.first_y, y.shape[2], steps.apart_y))
    band = new_bands(x, groups, rows, w.shape[:2], row, steps)
    tile = memory.empty((len(band), groups, blocks * width), x.dtype)
    correlate_all(_rows(whole(x)), (by_block, bias), _rows(y), steps, band, tile)


def _along_x(kernel: int, geometry: Geometry) -> tuple[int, int, int, int]:
    return kernel, geometry.stride[2], geometry.padding[2], geometry.dilation[2]


def pixels_of(y: np.ndarray) -> int:
    """How many neighboring pixels of y fill a vector; at most MOST_PIXELS."""
    return min(MOST_PIXELS, max(1, lanes_of(y.dtype) // y.shape[4]))


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, D, H, W C) of a volume."""
    return x.reshape(*x.shape[:3], x.shape[3] * x.shape[4])


def new_bands(x: np.ndarray, groups: int, rows: int, kernel: tuple[int, ...], row: Row, steps: Steps) -> np.ndarray:
    """An uninitialized band for each thread: (threads, KD, rows, elements), as many rows as fit into the cache."""
    elements = ((groups - 1) * row.step + row.taps) * x.shape[4]
    extra = (kernel[1] - 1) * steps.dilation_y + 1 - steps.stride_y
    fitting = (BAND_BYTES // (kernel[0] * elements * x.itemsize) - extra) // steps.stride_y
    rows = max(1, min(rows, fitting))
    return memory.empty((numba.get_num_threads(), kernel[0], rows * steps.stride_y + extra, elements), x.dtype)


KERNELS = {f.__name__: f for f in (forward, backward_input, backward_weight)}
