"""conv2d, `winograd2` and `fast`: 3x3 convolutions with fewer multiplications. derivation.md derives it.

A tile of m x m outputs reads a tile d of (m + 2) x (m + 2) inputs. Instead of 9 m^2 multiplications for each pair
of channels Winograd's minimal filtering F(m x m, 3 x 3) takes (m + 2)^2:

    y = A^t [ (G w G^t) * (B^t d B) ] A          * is element by element, and there the sum over channels is taken

Each of the (m + 2)^2 elements, a *position*, is a matrix product of its own: tiles x input channels times input
channels x output channels. Those products are where the time goes, and they run on the register block of
`ops/simd.py`; the transforms around them are additions of vectors. Nothing is ever written out whole: a thread takes
a few tiles at a time, transforms them (V), multiplies (M) and transforms back, all inside its cache.

    forward            V = B^t x B,  U = G w G^t,  M = V U,  y = A^t M A
    backward_input     the same with gy for x and the flipped, transposed w
    backward_weight    V = B^t x B,  Z = A gy A^t,  gU = V^t Z,  gw = G^t gU G

m = 2 is the default: its error is below that of the direct sum. m = 4 saves more multiplications, but its matrices
have larger entries and so larger rounding errors: it runs only when `fast` is asked for.

What Winograd does not cover (other kernel sizes, strides, dilation, groups, float64, few channels) goes to `blocked`,
or to `pointwise` where that is faster. So does a convolution whose result is not finite: a NaN that one output of a
tile reads would reach all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.out import contiguous_result, delivered
from .._cpu.old_simd import (
    ROWS_OF_1,
    ROWS_OF_2,
    VECTOR_BYTES,
    block_of_1,
    block_of_2,
    register_block,
    tile_transform,
)
from .._cpu.prefetch import LINE, prefetch
from ..concat import cpu as concat
from . import blocked, pointwise
from .blocked import Blocks, flat
from .epilogue import Activation, activate, is_finite
from .geometry import Pair, output_size

LANES = VECTOR_BYTES // 4  # float32 in a vector
# Of transformed inputs in a group of tiles, so that they stay in the first- or second-level cache.
GROUP_BYTES = 64_000
# Numbers between the matrices of two positions. Without them the distance would often be a power of two, and all
# positions of a tile would meet in the same few lines of a cache.
GAP = LANES
GRADIENT_GROUP = 64  # tiles per group in backward_weight: each update of gU adds the products of so many

# F(2x2, 3x3): interpolation at the points 0, 1, -1 and infinity.
BT2 = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1.0]])
G2 = np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]])
AT2 = np.array([[1, 1, 1, 0], [0, 1, -1, -1.0]])

# F(4x4, 3x3): 0, 1, -1, 2, -2 and infinity.
BT4 = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1.0],
    ]
)
G4 = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
AT4 = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1.0]])

# The transforms as functions for kernels. Named here, in a module: Numba can cache kernels that use them.
_bt2, _g2, _at2, _a2, _gt2 = (tile_transform(t) for t in (BT2, G2, AT2, AT2.T, G2.T))
_bt4, _g4, _at4, _a4, _gt4 = (tile_transform(t) for t in (BT4, G4, AT4, AT4.T, G4.T))

# For gU, whose rows are the LANES input channels of a vector: blocks whose rows divide them.
HALF_LANES = LANES // 2
half_lanes_of_2 = register_block(HALF_LANES, 2)
all_lanes_of_1 = register_block(LANES, 1)


# ------------------------------------------------------------------------------------- the kernels
def kernels(m: int) -> dict[str, Callable]:
    """The three kernels with F(m x m, 3 x 3), m = 2 or 4."""

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
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return convolve(m, x, w, b, Activation.none(x.dtype), **geometry, out=out)

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
        geometry = {"stride": stride, "dilation": dilation, "groups": groups}
        if _covers(gy, w.shape, **geometry) and 0 not in input_size:
            gx = contiguous_result((len(gy), *input_size, w.shape[2]), gy.dtype, out)
            # A correlation with the kernel turned by 180 degrees and the roles of its channels exchanged.
            turned_padding = (2 - padding[0], 2 - padding[1])
            if _correlate_into(gx, (gy,), w, True, None, turned_padding, m, Activation.none(gy.dtype)):
                return delivered(gx, out)
        if pointwise.covers(w.shape[:2], w.shape[3], padding=padding, **geometry):
            return pointwise.backward_input(gy, w, out)
        return blocked.backward_input(gy, w, input_size=input_size, padding=padding, **geometry, out=out)

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
        geometry = {"stride": stride, "dilation": dilation, "groups": groups}
        c_in, c_out = x.shape[3], gy.shape[3]
        if _covers(x, (*kernel_size, c_in, c_out), **geometry) and gy.size:
            gw = _weight_gradient(m, x, gy, padding)[:, :, :c_in, :c_out]
            if np.isfinite(gw).all():
                return delivered(np.ascontiguousarray(gw), out)
        if pointwise.covers(kernel_size, c_out, padding=padding, **geometry):
            return pointwise.backward_weight(x, gy, out)
        return blocked.backward_weight(x, gy, kernel_size=kernel_size, padding=padding, **geometry, out=out)

    return {"forward": forward, "backward_input": backward_input, "backward_weight": backward_weight}


def convolve(
    m: int,
    x: np.ndarray | tuple[np.ndarray, ...],
    w: np.ndarray,
    b: np.ndarray | None,
    activation: Activation,
    *,
    padding: Pair,
    out: np.ndarray | None,
    **geometry: Any,
) -> np.ndarray:
    """`forward` with F(m x m, 3 x 3), and then the activation, on each part of y while that is in the cache.

    x: an array, or a tuple of arrays whose channels follow each other. Two of them are read in place, if the
    channels of the first fill whole vectors.
    """
    is_pointwise = pointwise.covers(w.shape[:2], w.shape[3], padding=padding, **geometry)
    if isinstance(x, tuple) and (len(x) != 2 or x[0].shape[3] % LANES or is_pointwise):
        x = concat.forward(*x, axis=3)
    if is_pointwise:
        return pointwise.convolve(x, w, b, activation, out)
    parts = x if isinstance(x, tuple) else (x,)
    if _covers(parts[0], w.shape, **geometry):
        size = output_size(parts[0].shape[1:3], (3, 3), (1, 1), padding, (1, 1))
        y = contiguous_result((len(parts[0]), *size, w.shape[3]), w.dtype, out)
        if _correlate_into(y, parts, w, False, b, padding, m, activation):
            return delivered(y, out)
    return blocked.convolve(x, w, b, activation, padding=padding, **geometry, out=out)


def _covers(x: np.ndarray, w_shape: tuple[int, ...], *, stride: Pair, dilation: Pair, groups: int) -> bool:
    """Whether Winograd can compute this, and is the faster way: with few channels the transforms cost too much."""
    is_plain_3x3 = w_shape[:2] == (3, 3) and stride == dilation == (1, 1) and groups == 1
    return is_plain_3x3 and x.dtype == np.float32 and min(w_shape[2:]) >= LANES and x.size > 0


class _Plan:
    """How a convolution is cut up: tiles per image, channels in vectors, and the lengths of the scratch arrays."""

    def __init__(self, m: int, size: tuple[int, ...], c_in: int, c_out: int) -> None:
        n_images, height, width = size[:3]
        self.positions = (m + 2) ** 2
        self.tiles = -(-height // m), -(-width // m)
        self.count = n_images * self.tiles[0] * self.tiles[1]
        self.blocks = Blocks(c_out, LANES)
        self.ci_padded = -(-c_in // LANES) * LANES
        self.threads = numba.get_num_threads()

    def scratch(self, rows: int, columns: int) -> np.ndarray:
        """For each thread a matrix of that size at each position."""
        return memory.empty((self.threads, self.positions * (rows * columns + GAP)), np.float32)


def _correlate_into(
    y: np.ndarray,
    parts: tuple[np.ndarray, ...],
    w: np.ndarray,
    turned: bool,
    b: np.ndarray | None,
    padding: Pair,
    m: int,
    activation: Activation,
) -> bool:
    """y = activation(correlation of x with w, + b); False where the result of the correlation is not finite.

    parts: x, or two arrays whose channels make up x.
    """
    first, second = parts if len(parts) == 2 else (*parts, parts[0][..., :0])
    c_in, c_out = first.shape[3] + second.shape[3], y.shape[3]
    plan = _Plan(m, y.shape, c_in, c_out)
    blocks = plan.blocks
    u = memory.empty(plan.positions * (plan.ci_padded * blocks.padded + GAP), np.float32)
    taps = np.ascontiguousarray(w).reshape(9, *w.shape[2:])
    _transform_weights(m, taps, turned, c_in, c_out, plan.ci_padded, blocks.padded, blocks.width, u)
    start = np.zeros(blocks.padded, np.float32)
    if b is not None:
        start[:c_out] = b
    rows = ROWS_OF_2 if blocks.width > LANES else ROWS_OF_1
    group = max(16, min(GROUP_BYTES // (plan.positions * plan.ci_padded * 4), plan.count))
    group = -(-group // rows) * rows
    finite = np.ones(plan.threads, np.bool_)
    _correlate(
        m, flat(first), first.shape, flat(second), second.shape, u, start, y.reshape(-1), y.shape, padding,
        plan.tiles, group, blocks.width, plan.ci_padded // LANES, plan.scratch(group, plan.ci_padded),
        plan.scratch(group, blocks.width), finite, activation,
    )  # fmt: skip
    return bool(finite.all())


def _weight_gradient(m: int, x: np.ndarray, gy: np.ndarray, padding: Pair) -> np.ndarray:
    """gw with its channels filled up to whole vectors."""
    plan = _Plan(m, gy.shape, x.shape[3], gy.shape[3])
    ci_padded, co_padded, group = plan.ci_padded, plan.blocks.padded, GRADIENT_GROUP
    gu = plan.scratch(ci_padded, co_padded)
    _accumulate(
        m, flat(x), x.shape, flat(gy), gy.shape, padding,
        plan.tiles, group, plan.blocks.width, plan.scratch(group, ci_padded), plan.scratch(group, co_padded), gu,
    )  # fmt: skip
    gw = memory.empty((3, 3, ci_padded, co_padded), np.float32)
    _transform_back(m, gu, ci_padded, co_padded, gw.reshape(-1))
    return gw


# ------------------------------------------------------------------------------------- the transforms
@jit(parallel=True)
def _transform_weights(m, w, turned, c_in, c_out, ci_padded, co_padded, width, u):
    """U = G w G^t as u[position, block of output channels, input channel, lane], zeros beyond the channels there are.

    w (9, C_in, C_out); with `turned` the correlation is that of backward_input: taps in reverse order, and the roles of
    the channels exchanged. c_in and c_out are those of the correlation.
    """
    for block in prange(ci_padded // LANES):
        # Numba compiles the body of a parallel loop twice, with a signed and with an unsigned index. Without int64 the
        # function that the index is passed to would be compiled for both.
        _transform_weights_of(np.int64(block) * LANES, m, w, turned, c_in, c_out, ci_padded, co_padded, width, u)


@jit
def _transform_weights_of(first, m, w, turned, c_in, c_out, ci_padded, co_padded, width, u):
    """U of the input channels first .. first + LANES - 1."""
    n = m + 2
    position = ci_padded * co_padded + GAP
    taps = np.empty((9, LANES, LANES), w.dtype)  # [tap, input channel, output channel]
    for co in range(0, co_padded, LANES):
        _copy_taps(w, turned, first, min(LANES, c_in - first), co, min(LANES, c_out - co), taps)
        u0 = (co // width * ci_padded + first) * width + co % width
        for ci in range(LANES):
            ci0 = ci * LANES
            if m == 2:
                _g2(taps.reshape(-1), ci0, 3 * LANES * LANES, LANES * LANES, u, u0 + ci * width, n * position, position)
            else:
                _g4(taps.reshape(-1), ci0, 3 * LANES * LANES, LANES * LANES, u, u0 + ci * width, n * position, position)


@jit
def _copy_taps(w, turned, ci, c_in, co, c_out, taps):
    """The taps between c_in input channels from ci on and c_out output channels from co on, zeros beyond."""
    if c_in < LANES or c_out < LANES:
        taps[:] = 0
    for k in range(9):
        if turned:
            for o in range(c_out):
                for i in range(c_in):
                    taps[k, i, o] = w[8 - k, co + o, ci + i]
        else:
            for i in range(c_in):
                for o in range(c_out):
                    taps[k, i, o] = w[k, ci + i, co + o]


@jit
def _segment(tile, last, tiles, inner_first, inner_end):
    """Tiles from number `tile` on that lie in one row of tiles: where, how many, and which of them need no care.

    Returns (image, ty, tx, count, a, b): tiles tx .. tx + count - 1 of row ty; those from column a to b - 1 are inner
    ones, where no index can leave the image. `last` ends the group, inner_first and inner_end bound the columns.
    """
    strip, tx = divmod(tile, tiles[1])
    image, ty = divmod(strip, tiles[0])
    end = min(tiles[1], tx + last - tile)
    a = min(max(inner_first, tx), end)
    return image, ty, tx, end - tx, a, min(max(inner_end, a), end)


@jit
def _copy_window(x, size, image, top, left, n, channel, valid, window):
    """n x n pixels of `valid` channels, with zeros outside of the image and in the lanes left over."""
    _, height, width, channels = size
    for r in range(n):
        for q in range(n):
            here = valid if 0 <= top + r < height and 0 <= left + q < width else 0
            source = ((image * height + top + r) * width + left + q) * channels + channel
            target = (r * n + q) * LANES
            for i in range(here):
                window[target + i] = x[source + i]
            for i in range(here, LANES):
                window[target + i] = 0


@jit
def _ask_for(x, size, first, count, tiles, m, top, left):
    """Prefetch m x m pixels for each of the tiles first .. in one row of tiles, the first at (m ty + top, m tx + left).

    A thread that multiplies for a microsecond would wait for main memory when it goes on to the next tiles. Of what a
    tile reads, the rows above and the columns to the left were read for the tiles before it.
    """
    _, height, width, channels = size
    if first >= size[0] * tiles[0] * tiles[1]:
        return
    image, ty, tx, length, _, _ = _segment(first, first + count, tiles, 0, 0)
    start, end = max(0, tx * m + left), min(width, (tx + length) * m + left)
    for y in range(max(0, ty * m + top), min(height, (ty + 1) * m + top)):
        row = (image * height + y) * width
        for i in range((row + start) * channels, (row + end) * channels, LINE):
            prefetch(x, i)


@jit
def _inputs(m, x, x0, x_step, row, column, v, v0, position, count):
    """B^t x B of `count` neighbouring tiles, for one vector of channels."""
    if m == 2:
        for t in range(count):
            _bt2(x, x0 + t * x_step, row, column, v, v0 + t * LANES, 4 * position, position)
    else:
        for t in range(count):
            _bt4(x, x0 + t * x_step, row, column, v, v0 + t * LANES, 6 * position, position)


@jit
def _transform_inputs(m, x, size, first, count, tiles, padding, v, first_block, position, group, window):
    """V = B^t x B of tiles first .. first + count - 1, as v[position, block of input channels, tile, lane].

    The blocks of channels of x are those from number first_block on.
    """
    n = m + 2
    _, height, width, channels = size
    inner_first, inner_end = (padding[1] + m - 1) // m, (width - n + padding[1]) // m + 1
    for c in range(0, channels, LANES):
        valid = min(LANES, channels - c)
        v0 = (first_block + c // LANES) * group * LANES
        tile = first
        while tile < first + count:
            image, ty, tx, length, a, b = _segment(tile, first + count, tiles, inner_first, inner_end)
            iy = ty * m - padding[0]
            if iy < 0 or iy + n > height or valid < LANES:
                a = b = tx + length
            x0 = ((image * height + iy) * width + a * m - padding[1]) * channels + c
            _inputs(m, x, x0, m * channels, width * channels, channels, v, v0 + (a - tx) * LANES, position, b - a)
            for q in range(tx, tx + length):
                if q < a or q >= b:
                    _copy_window(x, size, image, iy, q * m - padding[1], n, c, valid, window)
                    _inputs(m, window, 0, 0, n * LANES, LANES, v, v0 + (q - tx) * LANES, position, 1)
            tile += length
            v0 += length * LANES


@jit
def _outputs(m, products, p0, p_step, position, y, y0, y_step, row, column, count):
    """A^t M A of `count` neighbouring tiles, for one vector of channels."""
    if m == 2:
        for t in range(count):
            _at2(products, p0 + t * p_step, 4 * position, position, y, y0 + t * y_step, row, column)
    else:
        for t in range(count):
            _at4(products, p0 + t * p_step, 6 * position, position, y, y0 + t * y_step, row, column)


@jit
def _transform_outputs(m, products, position, block, first, count, tiles, y, size, channel, window):
    """y = A^t M A for tiles first .. and the channels channel .. of one block, M as products[position, tile, lane]."""
    _, height, width, channels = size
    for c in range(channel, min(channel + block, channels), LANES):
        valid = min(LANES, channels - c)
        tile, p0 = first, c - channel
        while tile < first + count:
            image, ty, tx, length, _, b = _segment(tile, first + count, tiles, 0, width // m)
            rows = min(m, height - ty * m)
            if rows < m or valid < LANES:
                b = tx
            y0 = ((image * height + ty * m) * width + tx * m) * channels + c
            _outputs(m, products, p0, block, position, y, y0, m * channels, width * channels, channels, b - tx)
            for q in range(b, tx + length):
                _outputs(m, products, p0 + (q - tx) * block, 0, position, window, 0, 0, m * LANES, LANES, 1)
                for r in range(rows):
                    for column in range(min(m, width - q * m)):
                        target = y0 + (r * width + (q - tx) * m + column) * channels
                        for i in range(valid):
                            y[target + i] = window[(r * m + column) * LANES + i]
            tile += length
            p0 += length * block


@jit
def _gradients(m, gy, gy0, gy_step, row, column, z, z0, z_step, position, count):
    """A gy A^t of `count` neighbouring tiles, for one vector of channels."""
    if m == 2:
        for t in range(count):
            _a2(gy, gy0 + t * gy_step, row, column, z, z0 + t * z_step, 4 * position, position)
    else:
        for t in range(count):
            _a4(gy, gy0 + t * gy_step, row, column, z, z0 + t * z_step, 6 * position, position)


@jit
def _transform_gradients(m, gy, size, first, count, tiles, z, position, group, block, window):
    """Z = A gy A^t of tiles first .., as z[position, block of output channels, tile, lane]."""
    _, height, width, channels = size
    padded = (channels + block - 1) // block * block
    for c in range(0, padded, LANES):
        valid = max(0, min(LANES, channels - c))
        tile, z0 = first, c // block * group * block + c % block
        while tile < first + count:
            image, ty, tx, length, _, b = _segment(tile, first + count, tiles, 0, width // m)
            if (ty + 1) * m > height or valid < LANES:
                b = tx
            gy0 = ((image * height + ty * m) * width + tx * m) * channels + c
            _gradients(m, gy, gy0, m * channels, width * channels, channels, z, z0, block, position, b - tx)
            for q in range(b, tx + length):
                _copy_window(gy, size, image, ty * m, q * m, m, c, valid, window)
                _gradients(m, window, 0, 0, m * LANES, LANES, z, z0 + (q - tx) * block, 0, position, 1)
            tile += length
            z0 += length * block


@jit(parallel=True)
def _transform_back(m, gus, ci_padded, co_padded, gw):
    """gw = G^t gU G, gU the sum of the threads' shares in a fixed order."""
    for ci in prange(ci_padded):
        _transform_back_of(np.int64(ci), m, gus, ci_padded, co_padded, gw)


@jit
def _transform_back_of(ci, m, gus, ci_padded, co_padded, gw):
    n = m + 2
    tap = ci_padded * co_padded
    position = tap + GAP
    gu = gus[0]
    for s in range(n * n):
        row = s * position + ci * co_padded
        for thread in range(1, len(gus)):
            for i in range(row, row + co_padded):
                gu[i] += gus[thread, i]
    for co in range(ci * co_padded, (ci + 1) * co_padded, LANES):
        if m == 2:
            _gt2(gu, co, n * position, position, gw, co, 3 * tap, tap)
        else:
            _gt4(gu, co, n * position, position, gw, co, 3 * tap, tap)


# ------------------------------------------------------------------------------------- the products
@jit
def _multiply(v, v0, u, u0, start, start0, products, m0, count, group, channel_blocks, block):
    """M = V U at one position, for a group of tiles and a block of output channels."""
    if block > LANES:
        for t in range(0, count, ROWS_OF_2):
            block_of_2(
                v, v0 + t * LANES, LANES, 1, group * LANES, u, u0, block, LANES * block, LANES, channel_blocks,
                start, start0, products, m0 + t * block, block, 0,
            )  # fmt: skip
    else:
        for t in range(0, count, ROWS_OF_1):
            block_of_1(
                v, v0 + t * LANES, LANES, 1, group * LANES, u, u0, LANES, LANES * LANES, LANES, channel_blocks,
                start, start0, products, m0 + t * LANES, LANES, 0,
            )  # fmt: skip


@jit(parallel=True)
def _correlate(
    m, x, x_size, x2, x2_size, u, bias, y, y_size, padding, tiles, group, block, channel_blocks, vs, products, finite,
    activation,
):  # fmt: skip
    threads = len(vs)
    strips = y_size[0] * tiles[0]  # rows of tiles, of all images: what a strip writes lies together in memory
    for i in prange(threads):
        thread = np.int64(i)  # as above
        finite[thread] = _correlate_strips(
            thread * strips // threads, (thread + 1) * strips // threads, m, x, x_size, x2, x2_size, u, bias, y, y_size,
            padding, tiles, group, block, channel_blocks, vs[thread], products[thread], activation,
        )  # fmt: skip


@jit
def _correlate_strips(
    first_strip, last_strip, m, x, x_size, x2, x2_size, u, bias, y, y_size, padding, tiles, group, block,
    channel_blocks, v, products, activation,
):  # fmt: skip
    """What one thread does; whether the results of the correlation are finite."""
    n = m + 2
    _, oh, ow, c_out = y_size
    strips_at_once = max(1, group // tiles[1])
    v_position = channel_blocks * LANES * group + GAP
    u_position = channel_blocks * LANES * bias.size + GAP
    m_position = group * block + GAP
    zeros = np.zeros(block, x.dtype)
    window = np.empty(n * n * LANES, x.dtype)
    finite = True
    for strip in range(first_strip, last_strip, strips_at_once):
        end = min(strip + strips_at_once, last_strip)
        for first in range(strip * tiles[1], end * tiles[1], group):
            count = min(group, end * tiles[1] - first)
            _transform_inputs(m, x, x_size, first, count, tiles, padding, v, 0, v_position, group, window)
            blocks = (x_size[3] + LANES - 1) // LANES
            _transform_inputs(m, x2, x2_size, first, count, tiles, padding, v, blocks, v_position, group, window)
            _ask_for(x, x_size, first + count, group, tiles, m, 2 - padding[0], 2 - padding[1])
            _ask_for(x2, x2_size, first + count, group, tiles, m, 2 - padding[0], 2 - padding[1])
            for channel in range(0, c_out, block):
                for s in range(n * n):
                    u0 = s * u_position + channel * channel_blocks * LANES
                    # The position of point 1 in both axes reaches every output with weight 1: the bias goes there.
                    start, start0 = (bias, channel) if s == n + 1 else (zeros, 0)
                    _multiply(
                        v, s * v_position, u, u0, start, start0, products, s * m_position, count, group,
                        channel_blocks, block,
                    )  # fmt: skip
                _transform_outputs(m, products, m_position, block, first, count, tiles, y, y_size, channel, window)
        row = strip // tiles[0] * oh + strip % tiles[0] * m
        row_end = end // tiles[0] * oh + end % tiles[0] * m
        finite &= is_finite(y, row * ow * c_out, row_end * ow * c_out)
        activate(y, row * ow * c_out, row_end * ow * c_out, activation)
    return finite


@jit
def _add_products(v, v0, z, z0, count, block, gu, gu0, co_padded, zeros):
    """gU += V^t Z at one position, for one vector of input channels and one block of output channels."""
    if block > LANES:
        for r in range(0, LANES, HALF_LANES):
            c0 = gu0 + r * co_padded
            half_lanes_of_2(v, v0 + r, 1, LANES, 0, z, z0, block, 0, count, 1, zeros, 0, gu, c0, co_padded, 1)
    else:
        all_lanes_of_1(v, v0, 1, LANES, 0, z, z0, block, 0, count, 1, zeros, 0, gu, gu0, co_padded, 1)


@jit(parallel=True)
def _accumulate(m, x, x_size, gy, gy_size, padding, tiles, group, block, vs, zs, gus):
    threads = len(vs)
    count = gy_size[0] * tiles[0] * tiles[1]
    for i in prange(threads):
        thread = np.int64(i)  # as above
        _accumulate_tiles(
            thread * count // threads, (thread + 1) * count // threads, m, x, x_size, gy, gy_size, padding, tiles,
            group, block, vs[thread], zs[thread], gus[thread],
        )  # fmt: skip


@jit
def _accumulate_tiles(
    first_tile, last_tile, m, x, x_size, gy, gy_size, padding, tiles, group, block, v, z, gu
):  # fmt: skip
    """What one thread does: gU of its tiles."""
    n = m + 2
    channel_blocks = (x_size[3] + LANES - 1) // LANES
    out_blocks = (gy_size[3] + block - 1) // block
    co_padded = out_blocks * block
    v_position = channel_blocks * LANES * group + GAP
    z_position = co_padded * group + GAP
    g_position = channel_blocks * LANES * co_padded + GAP
    zeros = np.zeros(block, x.dtype)
    window = np.empty(n * n * LANES, x.dtype)
    gu[:] = 0
    for first in range(first_tile, last_tile, group):
        count = min(group, last_tile - first)
        _transform_inputs(m, x, x_size, first, count, tiles, padding, v, 0, v_position, group, window)
        _transform_gradients(m, gy, gy_size, first, count, tiles, z, z_position, group, block, window)
        _ask_for(x, x_size, first + count, group, tiles, m, 2 - padding[0], 2 - padding[1])
        _ask_for(gy, gy_size, first + count, group, tiles, m, 0, 0)
        for s in range(n * n):
            for c in range(channel_blocks):
                v0 = s * v_position + c * group * LANES
                gu0 = s * g_position + c * LANES * co_padded
                for o in range(out_blocks):
                    z0 = s * z_position + o * group * block
                    _add_products(v, v0, z, z0, count, block, gu, gu0 + o * block, co_padded, zeros)
