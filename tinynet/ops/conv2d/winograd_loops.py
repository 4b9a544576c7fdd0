"""Winograd's loops over tiles, made from the transforms of one F(m x m, 3 x 3); winograd.py has the formulas.

With many tiles, the threads share the tiles. With few tiles and many channels most of the time would go into writing
and reading the transformed weights, so the threads share the output channels: a thread transforms all tiles, and for
each block of output channels it has the transformed weights in the cache of its own core.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.gemm import multiply, multiply_transposed
from .tiles import LANES, Grid, activate_tiles, prefetch_tiles, stack

GROUP_BYTES = 130_000  # of V in a group of tiles, so that V and M stay in the L2 cache of a core
CACHED = 8 << 20  # bytes: a smaller x is still in a cache, where the layer before left it, and is not prefetched
SMALLEST_GROUP = 16  # tiles: whole register blocks
GRADIENT_GROUP = 64  # tiles per group in backward_weight: each update of gU adds the products of so many
WIDTH = 2 * LANES  # columns of a product


@jit
def whole_vectors(channels):
    """The number of channels, rounded up to whole vectors."""
    return (channels + LANES - 1) // LANES * LANES


# ------------------------------------------------------------------------------------- the threads share the tiles
@jit(inline="always")
def last_pixels(grid):
    """The grid of the last m x m pixels of each tile of inputs: the tiles above and to the left read the others."""
    return Grid(grid.rows, grid.columns, grid.top + 2, grid.left + 2)


def correlation_by_tiles(m: int, load_inputs: Callable, store_outputs: Callable) -> Callable:
    """correlate_tiles(span, parts, U, bias, y, grid, activation), see `correlation`."""

    @jit(separate=True)
    def correlate_tiles(span, parts, U, bias, y, grid, activation):
        """What one thread does: the tiles span[0] .. span[1] - 1, group by group."""
        blocks, positions, c_in, width = U.shape
        group = (GROUP_BYTES // (positions * c_in * 4) // SMALLEST_GROUP + 1) * SMALLEST_GROUP
        share = -(-group // positions)  # of the next group's tiles: prefetched before each product
        ahead, is_far = last_pixels(grid), parts[0].nbytes > CACHED
        V, M = stack(positions, group, c_in), stack(positions, group, width)
        window = np.empty((m + 2, m + 2, max(c_in, width)), np.float32)
        for first in range(span[0], span[1], group):
            count, channel = min(group, span[1] - first), 0
            for x in parts:
                if x.shape[3] > 0:
                    load_inputs(x, first, count, grid, V[:, :, channel:], window)
                    channel += x.shape[3]
            for block in range(blocks):
                for s in range(positions):
                    if is_far and block == 0:
                        for x in parts:
                            prefetch_tiles(m, x, first + group + s * share, share, ahead)
                    multiply(V[s], U[block, s], None, M[s])
                part = slice(block * width, (block + 1) * width)
                store_outputs(M, first, count, grid, y[..., part], bias[part], window[:m, :m])
            activate_tiles(m, first, count, grid, y, activation)

    return correlate_tiles


def accumulation_by_tiles(m: int, load_inputs: Callable, load_gradients: Callable) -> Callable:
    """accumulate_tiles(span, x, gy, grid, gU), see `accumulation`."""

    @jit(separate=True)
    def accumulate_tiles(span, x, gy, grid, gU):
        """What one thread does: gU of the tiles span[0] .. span[1] - 1."""
        positions, c_in, c_out = gU.shape
        V, Z = stack(positions, GRADIENT_GROUP, c_in), stack(positions, GRADIENT_GROUP, c_out)
        window, outputs = np.empty((m + 2, m + 2, max(c_in, c_out)), np.float32), Grid(grid.rows, grid.columns, 0, 0)
        share, ahead, is_far = -(-GRADIENT_GROUP // positions), last_pixels(grid), x.nbytes > CACHED
        gU[:] = 0
        for first in range(span[0], span[1], GRADIENT_GROUP):
            count = min(GRADIENT_GROUP, span[1] - first)
            load_inputs(x, first, count, grid, V, window)
            load_gradients(
                gy[..., :c_out], first, count, outputs, Z, window[:m, :m]
            )  # a slice, as below: compiled once
            for s in range(positions):
                if is_far:
                    prefetch_tiles(m, x, first + GRADIENT_GROUP + s * share, share, ahead)
                    prefetch_tiles(m, gy, first + GRADIENT_GROUP + s * share, share, outputs)
                for channel in range(0, c_out, WIDTH):
                    part = slice(channel, channel + WIDTH)
                    total = gU[s, :, part]
                    multiply_transposed(V[s, :count], Z[s, :count, part], total, total)

    return accumulate_tiles


# ------------------------------------------------------------------------------------- the threads share the channels
def correlation_by_blocks(m: int, load_inputs: Callable, load_block: Callable, store_outputs: Callable) -> Callable:
    """correlate_blocks(span, parts, w, rotated, bias, y, grid), see `correlation`."""

    @jit(separate=True)
    def correlate_blocks(span, parts, w, rotated, bias, y, grid):
        """What one thread does: all tiles, for the blocks span[0] .. span[1] - 1 of output channels."""
        positions, tiles, c_in = (m + 2) ** 2, len(y) * grid.rows * grid.columns, whole_vectors(w.shape[2 + rotated])
        V, M, U = stack(positions, tiles, c_in), stack(positions, tiles, WIDTH), stack(positions, c_in, WIDTH)
        window, channel = np.empty((m + 2, m + 2, max(c_in, WIDTH)), np.float32), 0
        first = np.int64(0)  # not the literal 0, for which Numba would compile every callee again
        for x in parts:
            if x.shape[3] > 0:
                load_inputs(x, first, tiles, grid, V[:, :, channel:], window)
                channel += x.shape[3]
        for block in range(span[0], span[1]):
            load_block(w, rotated, block, U)
            for s in range(positions):
                multiply(V[s], U[s], None, M[s])
            part = slice(block * WIDTH, (block + 1) * WIDTH)
            store_outputs(M, first, tiles, grid, y[..., part], bias[part], window[:m, :m])

    return correlate_blocks


def accumulation_by_blocks(m: int, load_inputs: Callable, load_gradients: Callable, store_block: Callable) -> Callable:
    """accumulate_blocks(span, x, gy, grid, gw), see `accumulation`."""

    @jit(separate=True)
    def accumulate_blocks(span, x, gy, grid, gw):
        """What one thread does: all tiles, for the blocks span[0] .. span[1] - 1 of output channels."""
        positions, tiles, c_in = (m + 2) ** 2, len(x) * grid.rows * grid.columns, gw.shape[2]
        V, Z, gU = stack(positions, tiles, c_in), stack(positions, tiles, WIDTH), stack(positions, c_in, WIDTH)
        window, outputs = np.empty((m + 2, m + 2, max(c_in, WIDTH)), np.float32), Grid(grid.rows, grid.columns, 0, 0)
        first = np.int64(0)
        load_inputs(x, first, tiles, grid, V, window)
        for block in range(span[0], span[1]):
            part = slice(block * WIDTH, (block + 1) * WIDTH)
            load_gradients(gy[..., part], first, tiles, outputs, Z, window[:m, :m])
            for s in range(positions):
                multiply_transposed(V[s], Z[s], None, gU[s])
            store_block(gU, gw[..., part])

    return accumulate_blocks


# ------------------------------------------------------------------------------------- both, in parallel
def correlation(m: int, load_inputs: Callable, load_block: Callable, store_outputs: Callable) -> Callable:
    """correlate(parts, filters, y, grid, activation, threads): forward and backward_input.

    parts: two arrays whose channels follow each other. filters: w, whether it is rotated, U (block of output channels,
    position, input channel and a row more, column), and the bias. Without blocks in U, the threads share the output
    channels, and the activation is not applied.
    """
    by_tiles = correlation_by_tiles(m, load_inputs, store_outputs)
    by_blocks = correlation_by_blocks(m, load_inputs, load_block, store_outputs)

    @jit(separate=True)
    def correlate_share(thread, parts, filters, y, grid, activation, threads):
        w, rotated, U, bias = filters
        count = len(y) * grid.rows * grid.columns if len(U) > 0 else len(bias) // WIDTH
        span = share_of(thread, threads, count)
        if len(U) > 0:
            by_tiles(span, parts, U[:, :, :-1], bias, y, grid, activation)
        else:
            by_blocks(span, parts, w, rotated, bias, y, grid)

    @jit
    def correlate(parts, filters, y, grid, activation, threads):
        in_parallel(correlate_share, threads, (parts, filters, y, grid, activation, threads))

    return correlate


def accumulation(m: int, load_inputs: Callable, load_gradients: Callable, store_block: Callable) -> Callable:
    """accumulate(x, gy, grid, gU, gw, threads): backward_weight.

    gU: (thread, position, input channel, output channel), the sums of each thread. Without threads in gU, the threads
    share the output channels and compute gw.
    """
    by_tiles = accumulation_by_tiles(m, load_inputs, load_gradients)
    by_blocks = accumulation_by_blocks(m, load_inputs, load_gradients, store_block)

    @jit(separate=True)
    def accumulate_share(thread, x, gy, grid, gU, gw, threads):
        count = len(x) * grid.rows * grid.columns if len(gU) > 0 else gw.shape[3] // WIDTH
        span = share_of(thread, threads, count)
        if len(gU) > 0:
            by_tiles(span, x, gy, grid, gU[thread])
        else:
            by_blocks(span, x, gy, grid, gw)

    @jit
    def accumulate(x, gy, grid, gU, gw, threads):
        in_parallel(accumulate_share, threads, (x, gy, grid, gU, gw, threads))

    return accumulate
