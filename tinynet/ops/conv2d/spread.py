"""backward_input with few input channels: each output spreads its gradient over the pixels that it was computed from.

In the forward pass of `blocked`, rows of the matrix A overlap: row ox is what output ox reads. Here the rows of the
*result* overlap. For one row of gx, and one row (kz, ky) of the kernel that reaches it from row oy of gy:

    gx row       p0 p1 p2 p3 p4 p5 ...      KW = 3, stride 1
                 +  +  +                    gy[oy, 0] w[ky]^T
                    +  +  +                 gy[oy, 1] w[ky]^T
                       +  +  +              ...

So it is one matrix product, gy[oy] w[ky]^T with KW C_in columns, added to a view with overlapping rows. A register
block
finishes a row (load, add, store) before it begins the next one, so no sum is lost. `blocked` would compute runs of
neighboring pixels instead, of whose products many are with 0 where there are few channels.

A row of gx is computed in a buffer with its padding, and more elements behind: the columns beyond KW C_in, all 0, end
there.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.gemm import blocks_of, multiply
from .._shared.geometry import Geometry


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: tuple[int, ...], geometry: Geometry) -> np.ndarray:
    """gx (N, D, H, W, C_in) of gy (N, OD, OH, OW, C_out) and w (KD, KH, KW, C_in, C_out).

    geometry: of volumes, without groups, and without dilation along x.
    """
    kd, kh, kw, c_in, c_out = w.shape
    gx = memory.empty((len(gy), *input_size, c_in), gy.dtype)
    width, blocks = blocks_of(kw * c_in, gy.dtype)
    columns = np.zeros((kd, kh, c_out, blocks * width), gy.dtype)
    columns[..., : kw * c_in] = w.reshape(kd, kh, kw * c_in, c_out).swapaxes(2, 3)
    by_block = np.ascontiguousarray(columns.reshape(kd, kh, c_out, blocks, width).transpose(3, 0, 1, 2, 4))
    along_z, along_y, (stride, padding, _) = zip(*geometry[:3])
    reached = (gy.shape[3] - 1) * stride * c_in + blocks * width
    row = max(reached, (padding + input_size[2]) * c_in)
    buffers = memory.empty((numba.get_num_threads(), row), gy.dtype)
    _spread_all(gy, by_block, gx, (along_z, along_y, stride * c_in, padding * c_in), buffers)
    return gx


@jit
def _output_at(i, k, along, outputs):
    """The output whose tap k reads input i, along one axis; -1 if there is none. along: (stride, padding, dilation)."""
    stride, padding, dilation = along
    place = i + padding - k * dilation
    return place // stride if place % stride == 0 and 0 <= place < outputs * stride else -1


@jit(separate=True)
def _spread_to_row(gy, w, z, y, steps, buffer):
    """buffer = row y of slice z of the gradient, with its padding. gy: of one volume; w (block, KD, KH, C_out, column).

    steps: along z, along y, and elements from the columns of one output to those of the next.
    """
    along_z, along_y, step, _ = steps
    blocks, kd, kh, _, width = w.shape
    depth, height, outputs, _ = gy.shape
    buffer[:] = 0
    for kz in range(kd):
        oz = _output_at(z, kz, along_z, depth)
        for ky in range(kh):
            oy = _output_at(y, ky, along_y, height)
            if oz >= 0 and oy >= 0:
                for block in range(blocks):
                    part = buffer[block * width :]
                    target = as_strided(part, (outputs, width), (step * part.itemsize, part.itemsize))
                    multiply(gy[oz, oy], w[block, kz, ky], target, target)


@jit(separate=True)
def _spread_share(thread, gy, w, gx, steps, buffers):
    """What one thread does: its share of the rows of gx."""
    (volumes, depth, height, width, channels), buffer = gx.shape, buffers[thread]
    inside = buffer[steps[3] : steps[3] + width * channels]
    first, end = share_of(thread, len(buffers), volumes * depth * height)
    for line in range(first, end):
        n, z, y = line // (depth * height), line // height % depth, line % height
        _spread_to_row(gy[n], w, z, y, steps, buffer)
        row = gx[n, z, y].reshape(-1)
        for e in range(len(row)):
            row[e] = inside[e]


@jit
def _spread_all(gy, w, gx, steps, buffers):
    in_parallel(_spread_share, len(buffers), (gy, w, gx, steps, buffers))
