"""conv2d and conv3d, `blocked`: any kernel size, stride, padding, dilation and groups, as matrix products of views.

An image is a volume with one slice. For one row of outputs and one row (kz, ky) of the kernel, the elements that meet
are a matrix A: its row ox holds the KW C_in neighbors from pixel ox * stride on. These rows overlap, and no element is
copied: A is the image row, seen with other strides.

    image row    p0 p1 p2 p3 p4 p5 ...      KW = 3, stride 1
    A            p0 p1 p2                   row ox = 0
                    p1 p2 p3                row ox = 1           y[oy] = bias + sum over ky of A[ky] w[ky]
                       p2 p3 p4             ...

backward_weight has the same matrices, transposed: gw[ky] = sum over oy of A[oy]^T gy[oy]. In backward_input, the rows
of the result overlap (spread.py). Only a *band* is copied: some image rows with their padding written out, so that no
index can leave the image. With groups, a band holds the channels of one group.

Few output channels would leave lanes of a vector empty (AVX-512 has 16). Then a *run* of neighboring outputs is
computed as one output with more channels, as many as fit into a vector:

    KW = 3, stride 1, 8 channels:   outputs 2j and 2j + 1 read the inputs 2j - 1 .. 2j + 2

                      w of output 2j    w of output 2j + 1
        input 2j - 1  w[kx = 0]         0
        input 2j      w[kx = 1]         w[kx = 0]
        input 2j + 1  w[kx = 2]         w[kx = 1]         3/4 of the lanes are useful instead of 1/2
        input 2j + 2  0                 w[kx = 2]

The rows of x and y stay as they are in memory; only the weights are written out in this *widened* form. A stride along
x decides which weight stands where (`Row`). With dilation, the taps of a kernel row are not neighbors: the sum over kx
comes in *pieces*.

The padding takes part in the sums: a NaN in w or gy may reach more results than by the definition.
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.simd import lanes_of
from .._cpu.gemm import blocks_of
from .._cpu.parts import whole
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images
from . import spread
from .blocked_loops import accumulate_all, correlate_all
from .epilogue import Activation
from .rows import Row, Steps

MOST_PIXELS = 4  # of a run: the more of them, the larger the part of the weights that is 0
BAND_BYTES = 300_000  # of input per band: with the weights of one block it fits into a core's L2 cache


def forward(x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
    """y[n, o, co] = epilogue(b[co] + sum over k, ci of x[n, i, ci] w[k, ci, co]); o, k and i have two or three axes."""
    x = whole(x)
    size = geometry.output_size(x.shape[1:-1], w.shape[:-2])
    y = memory.empty((len(x), *size, w.shape[-1]), x.dtype)
    (sz, sy, sx), (pz, py, px), (dz, dy, dx), groups = of_volumes(geometry)
    row = Row.of(w.shape[-3], sx, px, dx, pixels_of(w.shape[-1] // groups, x.dtype))
    correlate(volumes(x), by_group(w, groups), b, volumes(y), row, (sz, sy, pz, py, dz, dy), epilogue)
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: tuple[int, ...], geometry: Geometry) -> np.ndarray:
    """gx[n, i, ci] = sum over co and all pairs of an output o and a tap k that read this pixel of gy w."""
    gx = memory.empty((len(gy), *input_size, w.shape[-2] * geometry.groups), gy.dtype)
    spread.backward_input(volumes(whole(gy)), by_group(w, geometry.groups), of_volumes(geometry), volumes(gx))
    return gx


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: tuple[int, ...], geometry: Geometry) -> np.ndarray:
    """gw[k, ci, co] = sum over n, o of x[n, i, ci] gy[n, o, co]."""
    x, gy = volumes(whole(x)), volumes(whole(gy))
    (sz, sy, sx), (pz, py, px), (dz, dy, dx), groups = of_volumes(geometry)
    kd, kh, kw = (1, *kernel_size)[-3:]
    i_group, o_group = x.shape[4] // groups, gy.shape[4] // groups
    row = Row.of(kw, sx, px, dx, pixels_of(o_group, x.dtype))
    steps = row.steps((sz, sy, pz, py, dz, dy), i_group)
    runs, (width, blocks) = -(-gy.shape[3] // row.pixels), blocks_of(row.pixels * o_group, x.dtype)
    bands = new_bands(runs, gy.shape[2], (kd, kh, i_group), row, steps, x.dtype)
    rows = (bands.shape[2] - (kh - 1) * dy - 1) // sy + 1
    tiles = memory.empty((len(bands), rows, runs, blocks * width), x.dtype)
    k = len(row.taps) // len(row.pieces) * i_group
    gw = memory.empty((len(bands), groups, len(row.pieces), kd, kh, k, blocks * width), x.dtype)
    accumulate_all(x, gy, gw, np.array(row.pieces) * i_group, steps, (bands, tiles))
    wide = gw.sum(axis=0)[..., : row.pixels * o_group].transpose(0, 2, 3, 1, 4, 5)
    total = row.narrowed(wide, (groups, kd, kh, kw, i_group, o_group)).transpose(1, 2, 3, 4, 0, 5)
    return np.ascontiguousarray(total).reshape(*kernel_size, i_group, groups * o_group)


def correlate(
    x: np.ndarray, w: np.ndarray, b: Bias, y: np.ndarray, row: Row, along_z_and_y: tuple, epilogue: Epilogue
) -> None:
    """y = epilogue(b + correlation of x with w).

    w: (group, KD, KH, KW, C_in, C_out). row: along x; along_z_and_y: the first six Steps.
    """
    groups, kd, kh, _, i_group, o_group = w.shape
    steps, wide = row.steps(along_z_and_y, i_group), row.widened(w)
    runs, (width, blocks) = -(-y.shape[3] // row.pixels), blocks_of(row.pixels * o_group, x.dtype)
    if blocks * width != row.pixels * o_group or runs * row.pixels != y.shape[3]:
        runs = -(-runs // 4) * 4  # of a tile, anyway: a register block of one row takes as long as one of 4
    padded, bias = np.zeros((*wide.shape[:-1], blocks * width), x.dtype), np.zeros((groups, blocks * width), x.dtype)
    padded[..., : row.pixels * o_group] = wide
    if b is not None:
        bias[:, : row.pixels * o_group].reshape(groups, row.pixels, o_group)[:] = b.reshape(groups, 1, o_group)
    # In the order in which the loops read it: group, block, piece, KD, KH, k, column.
    by_block = padded.reshape(*padded.shape[:-1], blocks, width).transpose(0, 5, 3, 1, 2, 4, 6)
    filters = np.ascontiguousarray(by_block), bias, np.array(row.pieces) * i_group
    bands = new_bands(runs, y.shape[2], (kd, kh, i_group), row, steps, x.dtype)
    tiles = memory.empty((len(bands), runs, width), x.dtype)
    correlate_all(x, filters, y, steps, (bands, tiles), Activation.of(epilogue, x.dtype))


def of_volumes(geometry: Geometry) -> Geometry:
    """The geometry of images as that of volumes with one slice."""
    stride, padding, dilation, groups = geometry
    return Geometry((1, *stride)[-3:], (0, *padding)[-3:], (1, *dilation)[-3:], groups)


def volumes(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) as volumes (N, 1, H, W, C); volumes as they are."""
    return images if images.ndim == 5 else images[:, None]


def by_group(w: np.ndarray, groups: int) -> np.ndarray:
    """w ([KD,] KH, KW, C_in / groups, C_out) as (group, KD, KH, KW, C_in / groups, C_out / groups)."""
    w = w if w.ndim == 5 else w[None]
    return w.reshape(*w.shape[:4], groups, -1).transpose(4, 0, 1, 2, 3, 5)


def pixels_of(channels: int, dtype: np.dtype) -> int:
    """How many neighboring pixels with so many channels fill a vector; at most MOST_PIXELS."""
    return min(MOST_PIXELS, max(1, lanes_of(dtype) // max(1, channels)))


def new_bands(
    runs: int, rows: int, kernel: tuple[int, int, int], row: Row, steps: Steps, dtype: np.dtype
) -> np.ndarray:
    """An uninitialized band for each thread: (threads, KD, rows, pixels, channels), as many rows as the cache holds.

    kernel: (KD, KH, channels of a group).
    """
    kd, kh, channels = kernel
    pixels = (runs - 1) * row.step + row.taps[-1] + 1
    extra = (kh - 1) * steps.dilation_y + 1 - steps.stride_y
    fitting = (BAND_BYTES // max(1, kd * pixels * channels * dtype.itemsize) - extra) // steps.stride_y
    rows = max(1, min(rows, fitting))
    return memory.empty((numba.get_num_threads(), kd, rows * steps.stride_y + extra, pixels, channels), dtype)
