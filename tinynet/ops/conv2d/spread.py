"""backward_input of `blocked`: each output spreads its gradient over the pixels that it was computed from.

In the forward pass, rows of the matrix A overlap: row ox is what output ox reads. Here the rows of the *result*
overlap. For one row of gx, and one row (kz, ky) of the kernel that reaches it from row oy of gy:

    gx row       p0 p1 p2 p3 p4 p5 ...      KW = 3, stride 1
                 +  +  +                    gy[oy, 0] w[ky]^T
                    +  +  +                 gy[oy, 1] w[ky]^T
                       +  +  +              ...

So it is one matrix product, gy[oy] w[ky]^T with KW C_in columns, added to a view with overlapping rows. A register
block finishes a row (load, add, store) before it begins the next one, so no sum is lost. All rows of the kernel that
reach a row of gx are one sum: they are as far apart as the outputs they belong to.

A row of gx is computed in a buffer, with its padding. The last columns of a product may be beyond KW C_in: they are 0,
but a NaN in gy becomes a NaN in them, and so reaches pixels beside those that its output was computed from.
With dilation along x, the pixels of an output are not neighbors: the products come in *pieces*, one for each kx.
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.gemm import blocks_of, multiply
from .._cpu.strided import strided
from .._shared.geometry import Geometry


def backward_input(gy: np.ndarray, w: np.ndarray, geometry: Geometry, gx: np.ndarray) -> None:
    """gx (N, D, H, W, C) = the gradient of the input, of gy (N, OD, OH, OW, channels) and of w, a group at a time.

    w: (group, KD, KH, KW, C_in, C_out). geometry: of volumes.
    """
    groups, kd, kh, kw, c_in, c_out = w.shape
    along_z, along_y, (stride, padding, dilation) = zip(*geometry[:3])
    pieces, taps = (1, kw) if dilation == 1 else (kw, 1)
    width, blocks = blocks_of(taps * c_in, gy.dtype)
    columns = np.zeros((groups, kd, kh, pieces, blocks * width, c_out), gy.dtype)
    columns[..., : taps * c_in, :] = w.reshape(groups, kd, kh, pieces, taps * c_in, c_out)
    # In the order in which the loops read it: group, piece, block, KD, KH, C_out, column.
    by_block = columns.reshape(groups, kd, kh, pieces, blocks, width, c_out).transpose(0, 3, 4, 1, 2, 6, 5)
    reached = ((gy.shape[3] - 1) * stride + (pieces - 1) * dilation) * c_in + blocks * width
    row = max(reached, (padding + gx.shape[3]) * c_in)
    buffers = memory.empty((numba.get_num_threads(), row), gy.dtype)
    steps = along_z, along_y, stride * c_in, padding * c_in, dilation * c_in
    _spread_all(gy, np.ascontiguousarray(by_block), gx, steps, buffers)


@jit
def _reaching(i, along, taps, outputs):
    """The taps that reach input i along an axis: (how many, the first, their distance, its output, that distance).

    along: (stride, padding, dilation). Output o reads input o * stride + tap * dilation - padding.
    """
    stride, padding, dilation = along
    count, first, apart, output, outputs_apart = 0, 0, 1, 0, 0
    for k in range(taps):
        place = i + padding - k * dilation
        if place % stride == 0 and 0 <= place < outputs * stride:
            if count == 0:
                first, output = k, place // stride
            elif count == 1:
                apart, outputs_apart = k - first, place // stride - output
            count += 1
    return count, first, apart, output, outputs_apart


@jit(separate=True)
def _spread_to_row(gy, w, z, y, steps, buffer):
    """buffer = row y of slice z of gx, with its padding. gy: of one volume and group; w: of this group."""
    pieces, blocks, kd, kh, c_out, width = w.shape
    nz, kz, kz_apart, oz, oz_apart = _reaching(z, steps[0], kd, gy.shape[0])
    ny, ky, ky_apart, oy, oy_apart = _reaching(y, steps[1], kh, gy.shape[1])
    buffer[:] = 0
    if nz and ny:
        strides = oz_apart * gy.strides[0], oy_apart * gy.strides[1], gy.strides[2], gy.itemsize
        gradients = strided(gy[oz, oy], (nz, ny, gy.shape[2], c_out), strides)
        for piece in range(pieces):
            for block in range(blocks):
                weights = w[piece, block, kz : kz + nz * kz_apart : kz_apart, ky : ky + ny * ky_apart : ky_apart]
                part = buffer[piece * steps[4] + block * width :]
                target = strided(part, (gy.shape[2], width), (steps[2] * part.itemsize, part.itemsize))
                multiply(gradients, weights, target, target)


@jit(separate=True)
def _spread_share(thread, gy, w, gx, steps, buffers):
    """What one thread does: its share of the rows of gx."""
    (volumes, depth, height), buffer, groups = gx.shape[:3], buffers[thread], len(w)
    c_in, c_out = gx.shape[4] // groups, gy.shape[4] // groups
    first, end = share_of(thread, len(buffers), volumes * depth * height)
    for line in range(first, end):
        n, z, y = line // (depth * height), line // height % depth, line % height
        for g in range(groups):
            _spread_to_row(gy[n, :, :, :, g * c_out : (g + 1) * c_out], w[g], z, y, steps, buffer)
            _store_row(buffer[steps[3] :], g * c_in, c_in, gx[n, z, y])


@jit(separate=True)
def _store_row(inside, channel, channels, row):
    """Some channels of a row of pixels, from `channel` on, from a buffer that holds only these."""
    if channels == row.shape[1]:  # then the pixels are one piece of memory
        elements = row.reshape(-1)
        for e in range(len(elements)):
            elements[e] = inside[e]
    else:
        for pixel in range(len(row)):
            for c in range(channels):
                row[pixel, channel + c] = inside[pixel * channels + c]


@jit
def _spread_all(gy, w, gx, steps, buffers):
    in_parallel(_spread_share, len(buffers), (gy, w, gx, steps, buffers))
