"""conv3d, `winograd4`: kernels of 3x3 taps in each slice, of stride 1, by Winograd's F(4x4, 3x3) within the slices.

As a sum of 2-D convolutions, a 3-D convolution reads each slice of x once for each depth tap kz. Winograd's transforms
are linear, so they are done once for a slice, and only the products are repeated:

    M[oz] = sum over kz of V[oz + kz - pz] U[kz]        V[z] = B^T d B of slice z        y[oz] = A^T M[oz] A + bias

A thread takes a group of tiles at the same place in all slices, and goes along z. It holds the V of as many slices as
there are depth taps, in a *ring*: slice z is in place z modulo taps, and the next slice overwrites the oldest one.

    oz = 0   places hold slices  0  1  2     times  U0 U1 U2
    oz = 1                       3  1  2            U2 U0 U1       U is stored as  U0 U1 U2 U0 U1, so that each order
    oz = 2                       3  4  2            U1 U2 U0       is a view of it

The sum over kz is taken in the registers of the product. backward_weight has the same ring: gU[kz] += V[z]^T Z[oz].
Slices in the padding are zeros.
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.gemm import blocks_of, multiply, multiply_transposed
from .._cpu.parts import whole
from .._shared.geometry import Bias, Geometry, Triple
from ..conv2d.tiles import Grid, aligned
from ..conv2d.winograd import winograd4
from ..conv2d.winograd_loops import WIDTH, whole_vectors

M, POSITIONS = winograd4.m, winograd4.n**2
LARGEST_GROUP = 24  # tiles: their V and U stay in the L2 cache of a core
load_inputs, load_gradients, store_outputs = winograd4.load_inputs, winograd4.load_gradients, winograd4.store_outputs


def forward(x: np.ndarray, w: np.ndarray, b: Bias, geometry: Geometry) -> np.ndarray:
    """y[n, oz, oy, ox, co] = b[co] + sum over kz, ky, kx, ci of x[n, iz, iy, ix, ci] w[kz, ky, kx, ci, co]."""
    size = geometry.output_size(x.shape[1:4], w.shape[:3])
    return _correlate(x, (w, False, b), size, geometry.padding)


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Triple, geometry: Geometry) -> np.ndarray:
    """gx: gy correlated with the kernel that is rotated by 180 degrees, the roles of its channels exchanged."""
    padding = tuple(k - 1 - p for k, p in zip(w.shape, geometry.padding))
    return _correlate(gy, (w[::-1], True, None), input_size, padding)


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Triple, geometry: Geometry) -> np.ndarray:
    """gw[kz, ky, kx, ci, co] = sum over n, oz, oy, ox of x[n, iz, iy, ix, ci] gy[n, oz, oy, ox, co]."""
    c_in, c_out, taps = whole_vectors(x.shape[4]), whole_vectors(gy.shape[4]), kernel_size[0]
    gU = memory.empty((taps, numba.get_num_threads(), POSITIONS, c_in, c_out), np.float32)
    _accumulate_all(whole(x), whole(gy), geometry.padding[0], winograd4.grid(gy.shape[2:4], geometry.padding[1:]), gU)
    gw = np.empty((*kernel_size, c_in, c_out), np.float32)
    for kz in range(taps):
        winograd4.store_weights(gU[kz], gw[kz])
    return np.ascontiguousarray(gw[..., : x.shape[4], : gy.shape[4]])


def _correlate(x: np.ndarray, filters: tuple, size: Triple, padding: Triple) -> np.ndarray:
    """The result (N, *size, C_out) of a correlation; filters: w, whether its slices are rotated, and b or None."""
    w, rotated, b = filters
    c_in, c_out = (w.shape[4], w.shape[3]) if rotated else w.shape[3:]
    (width, blocks), taps = blocks_of(c_out, w.dtype), len(w)
    U = memory.empty((2 * taps - 1, blocks, POSITIONS, whole_vectors(c_in), width), np.float32)
    for kz in range(taps):
        winograd4.load_weights(np.ascontiguousarray(w[kz]), rotated, U[kz])
    U[taps:] = U[: taps - 1]
    bias = np.zeros(blocks * width, np.float32)
    bias[:c_out] = 0 if b is None else b
    y = memory.empty((len(x), *size, c_out), np.float32)
    grid, threads = winograd4.grid(size[1:], padding[1:]), numba.get_num_threads()
    _correlate_all(threads, whole(x), (U, bias), y, padding[0], grid)
    return y


# ------------------------------------------------------------------------------------- the loops over tiles and slices
@jit(separate=True)
def load_slice(x, z, first, count, grid, V, window):
    """V (POSITIONS, tile, channel) = the transformed tiles of slice z of all volumes, or zeros outside of them."""
    if 0 <= z < x.shape[1]:
        load_inputs(x[:, z], first, count, grid, V, window)
    else:
        V[:, :count] = 0


@jit
def group_of(tiles):
    """How many tiles a thread takes at a time: its share in equal parts."""
    parts = max(1, (tiles + LARGEST_GROUP - 1) // LARGEST_GROUP)
    return max(1, (tiles + parts - 1) // parts)


@jit(separate=True)
def _correlate_share(thread, threads, x, filters, y, front, grid):
    """A thread's share of the tiles of a plane, in all slices. front: padding along z."""
    start, end = share_of(thread, threads, len(y) * grid.rows * grid.columns)
    U, bias = filters
    orders, blocks, _, c_in, width = U.shape
    taps, group = (orders + 1) // 2, group_of(end - start)
    ring, sums = aligned((taps * POSITIONS, group + 1, c_in)), aligned((POSITIONS, group + 1, width))
    window = np.empty((M + 2, M + 2, max(c_in, width)), np.float32)
    for first in range(start, end, group):
        count = min(group, end - first)
        for z in range(y.shape[1] + taps - 1):  # slices of the padded volume
            place = z % taps * POSITIONS
            load_slice(x, z - front, first, count, grid, ring[place : place + POSITIONS], window)
            oz = z - taps + 1
            if oz >= 0:
                turn = -oz % taps
                for block in range(blocks):
                    for s in range(POSITIONS):
                        multiply(ring[s::POSITIONS, :count], U[turn : turn + taps, block, s], None, sums[s, :count])
                    part = slice(block * width, (block + 1) * width)
                    store_outputs(sums, first, count, grid, y[:, oz, :, :, part], bias[part], window[:M, :M])


@jit
def _correlate_all(threads, x, filters, y, front, grid):
    """filters: U and the bias."""
    in_parallel(_correlate_share, threads, (threads, x, filters, y, front, grid))


@jit(separate=True)
def _accumulate_share(thread, x, gy, front, grid, gU_of_threads):
    """gU of a thread's share of the tiles of a plane, in all slices."""
    start, end = share_of(thread, gU_of_threads.shape[1], len(gy) * grid.rows * grid.columns)
    gU = gU_of_threads[:, thread]
    taps, _, c_in, c_out = gU.shape
    group = group_of(end - start)
    ring, Z = aligned((taps * POSITIONS, group + 1, c_in)), aligned((POSITIONS, group + 1, c_out))
    window, outputs = np.empty((M + 2, M + 2, max(c_in, c_out)), np.float32), Grid(grid.rows, grid.columns, 0, 0)
    gU[:] = 0
    for first in range(start, end, group):
        count = min(group, end - first)
        for z in range(gy.shape[1] + taps - 1):
            place = z % taps * POSITIONS
            load_slice(x, z - front, first, count, grid, ring[place : place + POSITIONS], window)
            oz = z - taps + 1
            if oz >= 0:
                load_gradients(gy[:, oz], first, count, outputs, Z, window[:M, :M])
                for kz in range(taps):
                    place = (oz + kz) % taps * POSITIONS
                    for s in range(POSITIONS):
                        for channel in range(0, c_out, WIDTH):
                            part = slice(channel, channel + WIDTH)
                            total = gU[kz, s, :, part]
                            multiply_transposed(ring[place + s, :count], Z[s, :count, part], total, total)


@jit
def _accumulate_all(x, gy, front, grid, gU):
    """gU: (depth tap, thread, position, input channel, output channel)."""
    in_parallel(_accumulate_share, gU.shape[1], (x, gy, front, grid, gU))


KERNELS = {f.__name__: f for f in (forward, backward_input, backward_weight)}
