"""conv2d, `winograd4` and `winograd2`: 3x3 kernels of stride 1 with fewer multiplications, in float32.

Winograd's minimal filtering F(m x m, 3 x 3); derivation.md derives it. A tile of m x m outputs reads a tile d of n x n
inputs, n = m + 2. Instead of 9 m^2 multiplications for each pair of channels it takes n^2:

    y = A^T [ (G w G^T) * (B^T d B) ] A      * multiplies element by element, and there the sum over channels is taken

So each of the n^2 elements of a transformed tile, a *position* s, has a matrix product of its own. A thread takes its
tiles in groups, and each group through all steps while it is in the cache:

    forward            V[:, t] = B^T d B      M[s] = V[s] U[s]          y = A^T M[:, t] A + bias        U = G w G^T
    backward_input     the same, with gy for x and the kernel rotated by 180 degrees
    backward_weight    V[:, t] = B^T d B, Z[:, t] = A gy A^T      gU[s] += V[s]^T Z[s]          at the end gw = G^T gU G

V, Z, M, U and gU are stacks (tiles.py). A row of V, Z and M is a tile; a row of U and gU is an input channel.

While a thread multiplies, its core does not read ahead: the next group's pixels would come from main memory only when
they are loaded. So before each of the n^2 products, a share of these pixels is prefetched. Prefetching all of them at
once would take as long as loading them, because a core can wait for a few dozen cache lines at a time. Measured on 16
images of 256 x 256, 16 -> 16 channels: forward takes 0.92 of the time and backward_weight 0.75; at once 0.97 and 1.

A value that is not finite reaches all outputs of the tiles that read it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numba
import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import gather, scatter
from .._cpu.gemm import blocks_of, multiply, multiply_transposed
from .._cpu.parts import whole
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, Pair
from .epilogue import Activation
from .tiles import LANES, Grid, activate_tiles, prefetch_tiles, stack, tile_loader, tile_storer

GROUP_BYTES = 130_000  # of V in a group of tiles, so that V and M stay in the L2 cache of a core
CACHED = 8 << 20  # bytes: a smaller x is still in a cache, where the layer before left it, and is not prefetched
SMALLEST_GROUP = 16  # tiles: whole register blocks
GRADIENT_GROUP = 64  # tiles per group in backward_weight: each update of gU adds the products of so many
WIDTH = 2 * LANES  # columns of a product
Factors = Sequence[np.ndarray]  # of a matrix: their product


# ------------------------------------------------------------------------------------- the loops over tiles
@jit(inline="always")
def last_pixels(grid):
    """The grid of the last m x m pixels of each tile of inputs: the tiles above and to the left read the others."""
    return Grid(grid.rows, grid.columns, grid.top + 2, grid.left + 2)


def correlation_loop(m: int, load_inputs: Callable, store_outputs: Callable) -> Callable:
    """correlate(parts, U, bias, y, grid, activation, threads): forward and backward_input.

    parts: two arrays whose channels follow each other. U: (block of output channels, position, input channel, column).
    """

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

    @jit(parallel=True)
    def correlate(parts, U, bias, y, grid, activation, threads):
        count = len(y) * grid.rows * grid.columns
        for i in prange(threads):
            thread = np.int64(i)  # prange may give an unsigned index, and Numba would compile every callee twice
            span = thread * count // threads, (thread + 1) * count // threads
            correlate_tiles(span, parts, U, bias, y, grid, activation)

    return correlate


def accumulation_loop(m: int, load_inputs: Callable, load_gradients: Callable) -> Callable:
    """accumulate(x, gy, grid, gU): the sums of backward_weight; each thread has a gU of its own."""

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
            load_gradients(gy, first, count, outputs, Z, window[:m, :m])
            for s in range(positions):
                if is_far:
                    prefetch_tiles(m, x, first + GRADIENT_GROUP + s * share, share, ahead)
                    prefetch_tiles(m, gy, first + GRADIENT_GROUP + s * share, share, outputs)
                for channel in range(0, c_out, WIDTH):
                    part = slice(channel, channel + WIDTH)
                    total = gU[s, :, part]
                    multiply_transposed(V[s, :count], Z[s, :count, part], total, total)

    @jit(parallel=True)
    def accumulate(x, gy, grid, gU):
        threads, count = len(gU), len(x) * grid.rows * grid.columns
        for i in prange(threads):
            thread = np.int64(i)
            span = thread * count // threads, (thread + 1) * count // threads
            accumulate_tiles(span, x, gy, grid, gU[thread])

    return accumulate


# ------------------------------------------------------------------------------------- the weights
@jit(separate=True)
def copy_taps(w, rotated, ci, co, taps):
    """taps (3, 3, LANES, LANES) between the input channels from ci and the output channels from co on, zero-padded.

    rotated: of the kernel that is rotated by 180 degrees and has the roles of its channels exchanged.
    """
    taps[:] = 0
    for i in range(3):
        for j in range(3):
            if rotated:
                for o in range(min(LANES, w.shape[2] - co)):
                    for c in range(min(LANES, w.shape[3] - ci)):
                        taps[i, j, c, o] = w[2 - i, 2 - j, co + o, ci + c]
            else:
                for c in range(min(LANES, w.shape[2] - ci)):
                    for o in range(min(LANES, w.shape[3] - co)):
                        taps[i, j, c, o] = w[i, j, ci + c, co + o]


def weight_loader(transform: Callable) -> Callable:
    """load(w, rotated, U): U = G w G^T, with zeros for channels that do not exist."""

    @jit(separate=True)
    def load_channels(w, rotated, ci, U):
        """The input channels ci .. ci + LANES - 1."""
        blocks, _, _, width = U.shape
        taps = np.empty((3, 3, LANES, LANES), np.float32)
        for co in range(0, blocks * width, LANES):
            copy_taps(w, rotated, ci, co, taps)
            columns = U[co // width, :, :, co % width :]
            for c in range(LANES):
                transform(taps[:, :, c], 0, 0, columns[:, ci + c], 0)

    @jit(parallel=True)
    def load(w, rotated, U):
        for i in prange(U.shape[2] // LANES):
            load_channels(w, rotated, np.int64(i) * LANES, U)

    return load


def weight_storer(transform: Callable) -> Callable:
    """store(gU, gw): gw = G^T gU G, with gU the sum of the threads' shares in a fixed order."""

    @jit(separate=True)
    def store_channel(gU, ci, gw):
        total, zeros = gU[0], np.zeros(gw.shape[3], np.float32)
        for thread in range(1, len(gU)):
            for s in range(total.shape[0]):
                for co in range(total.shape[2]):
                    total[s, ci, co] += gU[thread, s, ci, co]
        for c in range(0, gw.shape[3], LANES):
            transform(total[:, ci], gw[:, :, ci], 0, 0, c, zeros)

    @jit(parallel=True)
    def store(gU, gw):
        for ci in prange(gw.shape[2]):
            store_channel(gU, np.int64(ci), gw)

    return store


# ------------------------------------------------------------------------------------- the kernels
class Winograd:
    """The three kernels with F(m x m, 3 x 3), made from the factors of its matrices.

    BT: factors of B^T (n, n); G (n, 3); AT: factors of A^T (m, n). A transform applies them from right to left.
    """

    def __init__(self, BT: Factors, G: np.ndarray, AT: Factors) -> None:
        self.BT, self.G, self.AT = functools.reduce(np.matmul, BT), G, functools.reduce(np.matmul, AT)
        self.m, self.n = self.AT.shape
        A = [factor.T for factor in reversed(AT)]
        self.load_inputs = tile_loader(gather(*BT), self.n, self.m)
        self.store_outputs = tile_storer(scatter(*AT), self.m)
        self.load_gradients = tile_loader(gather(*A), self.m, self.m)
        self.load_weights, self.store_weights = weight_loader(gather(G)), weight_storer(scatter(G.T))
        self._correlate_all = correlation_loop(self.m, self.load_inputs, self.store_outputs)
        self._accumulate_all = accumulation_loop(self.m, self.load_inputs, self.load_gradients)

    def forward(self, x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
        """y = epilogue(x * w + b). Two arrays whose channels follow each other are read where they lie."""
        if not isinstance(x, tuple) or len(x) != 2 or x[0].shape[3] % LANES:
            x = (whole(x),)
        size = geometry.output_size(x[0].shape[1:3], (3, 3))
        return self._correlate(x, (w, False, b), size, geometry.padding, epilogue)

    def backward_input(self, gy: np.ndarray, w: np.ndarray, input_size: Pair, geometry: Geometry) -> np.ndarray:
        """gx: gy correlated with the kernel rotated by 180 degrees, the roles of its channels exchanged."""
        padding = 2 - geometry.padding[0], 2 - geometry.padding[1]
        return self._correlate((gy,), (w, True, None), input_size, padding, PLAIN)

    def backward_weight(self, x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
        """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
        c_in, c_out = whole_vectors(x.shape[3]), whole_vectors(gy.shape[3])
        gU = memory.empty((numba.get_num_threads(), self.n**2, c_in, c_out), np.float32)
        grid = self.grid(gy.shape[1:3], geometry.padding)
        self._accumulate_all(whole(x), whole(gy), grid, gU)
        gw = np.empty((3, 3, c_in, c_out), np.float32)
        self.store_weights(gU, gw)
        return np.ascontiguousarray(gw[:, :, : x.shape[3], : gy.shape[3]])

    def _correlate(self, parts: tuple, filters: tuple, size: Pair, padding: Pair, epilogue: Epilogue) -> np.ndarray:
        """The result (N, *size, C_out) of a correlation; filters: w, whether it is rotated, and b or None."""
        w, rotated, b = filters
        c_in, c_out = (w.shape[3], w.shape[2]) if rotated else w.shape[2:]
        parts = tuple(np.ascontiguousarray(part) for part in parts)
        parts = parts if len(parts) == 2 else (*parts, parts[0][..., :0])
        width, blocks = blocks_of(c_out, w.dtype)
        U = memory.empty((blocks, self.n**2, whole_vectors(c_in) + 1, width), np.float32)[:, :, :-1]  # a gap: see stack
        self.load_weights(np.ascontiguousarray(w), rotated, U)
        bias = np.zeros(blocks * width, np.float32)
        bias[:c_out] = 0 if b is None else b
        y = memory.empty((len(parts[0]), *size, c_out), np.float32)
        activation, threads = Activation.of(epilogue, y.dtype), numba.get_num_threads()
        self._correlate_all(parts, U, bias, y, self.grid(size, padding), activation, threads)
        return y

    def grid(self, size: Pair, padding: Pair) -> Grid:
        """The tiles of a result of this size, whose inputs have this padding."""
        return Grid(-(-size[0] // self.m), -(-size[1] // self.m), -padding[0], -padding[1])


def whole_vectors(channels: int) -> int:
    """The number of channels, rounded up to whole vectors."""
    return -(-channels // LANES) * LANES


# F(2x2, 3x3): interpolation at the points 0, 1, -1 and infinity.
winograd2 = Winograd(
    BT=[np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1.0]])],
    G=np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]),
    AT=[np.array([[1, 1, 1, 0], [0, 1, -1, -1.0]])],
)

# F(4x4, 3x3): 0, a, -a, b, -b and infinity. Points near 1 keep the entries of the matrices small, and their rounding
# errors with them: derivation.md compares several. At two opposite points, polynomials have the same even part and
# opposite odd parts: both parts are computed once, and PAIRS makes their sums and differences.
a, b = 0.5**0.5, 2**0.5
PAIRS = np.array(
    [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, -1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, -1, 0],
        [0, 0, 0, 0, 0, 1.0],
    ]
)
winograd4 = Winograd(
    BT=[
        PAIRS,
        np.array(
            [
                [1, 0, -5 / 2, 0, 1, 0],
                [0, 0, -2, 0, 1, 0],
                [0, -2 * a, 0, a, 0, 0],
                [0, 0, -1 / 2, 0, 1, 0],
                [0, -b / 2, 0, b, 0, 0],
                [0, 1, 0, -5 / 2, 0, 1],
            ]
        ),
    ],
    G=np.array(
        [
            [1, 0, 0],
            [-2 / 3, -2 / 3 * a, -1 / 3],
            [-2 / 3, 2 / 3 * a, -1 / 3],
            [1 / 6, b / 6, 1 / 3],
            [1 / 6, -b / 6, 1 / 3],
            [0, 0, 1],
        ]
    ),
    AT=[
        np.array([[1, 1, 0, 1, 0, 0], [0, 0, a, 0, b, 0], [0, 1 / 2, 0, 2, 0, 0], [0, 0, a / 2, 0, 2 * b, 1]]),
        PAIRS,
    ],
)
