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
from collections.abc import Sequence

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.simd import gather, scatter
from .._cpu.gemm import blocks_of
from .._cpu.parts import whole
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, Pair
from .epilogue import Activation, finish
from .tiles import LANES, Grid, tile_loader, tile_storer
from .winograd_loops import WIDTH, accumulation, correlation, whole_vectors
from .winograd_weights import weight_loader, weight_storer

FEW_TILES = 64  # measured: up to here, it pays that the threads share the output channels
Factors = Sequence[np.ndarray]  # of a matrix: their product


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
        load_block, self.load_weights = weight_loader(gather(G))
        store_block, self.store_weights = weight_storer(scatter(G.T))
        self._correlate_all = correlation(self.m, self.load_inputs, load_block, self.store_outputs)
        self._accumulate_all = accumulation(self.m, self.load_inputs, self.load_gradients, store_block)

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
        grid, threads = self.grid(gy.shape[1:3], geometry.padding), numba.get_num_threads()
        c_in, (width, blocks) = whole_vectors(x.shape[3]), blocks_of(gy.shape[3], gy.dtype)
        gw = np.empty((3, 3, c_in, width * blocks), np.float32)
        by_blocks = shares_channels(len(x) * grid.rows * grid.columns, width, blocks)
        gU = memory.empty((0 if by_blocks else threads, self.n**2, c_in, width * blocks), np.float32)
        self._accumulate_all(whole(x), whole(gy), grid, gU, gw, threads)
        if not by_blocks:
            self.store_weights(gU, gw)
        return np.ascontiguousarray(gw[:, :, : x.shape[3], : gy.shape[3]])

    def _correlate(self, parts: tuple, filters: tuple, size: Pair, padding: Pair, epilogue: Epilogue) -> np.ndarray:
        """The result (N, *size, C_out) of a correlation; filters: w, whether it is rotated, and b or None."""
        w, rotated, b = filters
        c_in, c_out = (w.shape[3], w.shape[2]) if rotated else w.shape[2:]
        parts = tuple(np.ascontiguousarray(part) for part in parts)
        parts = parts if len(parts) == 2 else (*parts, np.empty((*parts[0].shape[:3], 0), np.float32))
        width, blocks = blocks_of(c_out, w.dtype)
        bias = np.zeros(blocks * width, np.float32)
        bias[:c_out] = 0 if b is None else b
        y = memory.empty((len(parts[0]), *size, c_out), np.float32)
        grid, threads, w = self.grid(size, padding), numba.get_num_threads(), np.ascontiguousarray(w)
        by_blocks = shares_channels(len(y) * grid.rows * grid.columns, width, blocks)
        shape = 0 if by_blocks else blocks, self.n**2, whole_vectors(c_in) + 1, width
        U = memory.empty(shape, np.float32)  # with a gap of a row between the positions: see stack
        if not by_blocks:
            self.load_weights(w, rotated, U[:, :, :-1])
        activation = Activation.of(epilogue, y.dtype)
        self._correlate_all(parts, (w, rotated, U, bias), y, grid, activation, threads)
        if by_blocks:
            finish(y, epilogue)
        return y

    def grid(self, size: Pair, padding: Pair) -> Grid:
        """The tiles of a result of this size, whose inputs have this padding."""
        return Grid(-(-size[0] // self.m), -(-size[1] // self.m), -padding[0], -padding[1])


def shares_channels(tiles: int, width: int, blocks: int) -> bool:
    """True if the threads share the output channels and not the tiles. Both ways give the same bits forward."""
    return tiles <= FEW_TILES and width == WIDTH and blocks >= numba.get_num_threads()


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
