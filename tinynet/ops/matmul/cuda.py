"""matmul on a GPU: how the operands lie in memory, and which blocks there are. What the versions do: matmul.cu.

    blocked   the default: 128 x 64 results per block, 8 x 8 per thread
    tiled     16 x 16 results per block, one per thread
    naive     one thread per result, from global memory
    tf32      as blocked, on tensor cores: factors rounded to 10 bits of mantissa, compute capability 8.0 and later

`choose` says where `tiled` stands in for another version.
"""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...backends.arrays import array_module
from ...backends.cuda.source import FLOAT, TENSOR_CORES, Source
from ...backends.launch import blocks, contiguous, empty, is_aligned, launch
from .operands import as_it_lies, sizes_of

SOURCE = Source(Path(__file__).with_name("matmul.cu"))
BLOCKED = Source(Path(__file__).with_name("blocked.cu"), [FLOAT, {**FLOAT, TENSOR_CORES: 1}])

THREADS = 256  # of naive and of adding chunks
TILE = 16  # of tiled
TILE_M, TILE_N, TILE_K, GEMM_THREADS = 128, 64, 8, 128  # of blocked, as in blocked.cu and product.cuh
# A sum is cut into chunks until there are about this many blocks, a few for each multiprocessor of a large GPU. One
# number for all GPUs: results depend on where sums are cut.
ENOUGH_BLOCKS = 256
FEWEST_STEPS = 32  # of a chunk, each of TILE_K terms: less work would not be worth writing its result


class Operand(NamedTuple):
    """A stack of matrices as it lies in memory.

    array: contiguous, axes (..., rows, columns). is_transposed: the product's matrices are those of the array with rows
    and columns swapped. outer, inner: elements from one matrix to the next along the two axes of the batch, 0 where the
    same one is used again.
    """

    array: Any
    is_transposed: bool
    outer: int
    inner: int

    @property
    def is_vector(self) -> bool:
        """Whether every group of four neighbors starts at a multiple of 16 bytes."""
        return self.array.shape[-1] % 4 == 0 and is_aligned(self.array)


class Product(NamedTuple):
    """z (batch, rows, columns) from x and y, summed over terms; inner: the batch is (batch / inner, inner) matrices."""

    x: Operand
    y: Operand
    z: Any
    batch: int
    rows: int
    columns: int
    terms: int
    inner: int

    @property
    def batch_arguments(self) -> tuple[int, ...]:
        """What all kernels are told of the batch."""
        return self.inner, self.x.outer, self.x.inner, self.y.outer, self.y.inner

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Elements to the next row and term of x, and to the next term and column of y."""
        x_strides = (1, self.rows) if self.x.is_transposed else (self.terms, 1)
        y_strides = (1, self.terms) if self.y.is_transposed else (self.columns, 1)
        return *x_strides, *y_strides

    def tiles(self, rows: int, columns: int) -> int:
        """How many tiles of this size cover all results."""
        return self.batch * blocks(self.rows, rows) * blocks(self.columns, columns)


def choose(asked: str, dtype: Any) -> str:
    """The version that runs if `asked` is asked for: `blocked` and `tf32` take float32 only, `tiled` every dtype."""
    return "tiled" if asked in ("blocked", "tf32") and dtype != np.float32 else asked


# ---------------------------------------------------------------------------------------- the versions
def _naive(p: Product) -> None:
    n = p.z.size
    sizes = (n, p.rows, p.columns, p.terms)
    launch(
        SOURCE, "matmul_naive", blocks(n, THREADS), THREADS,
        p.x.array, p.y.array, p.z, *sizes, *p.strides, *p.batch_arguments,
    )  # fmt: skip


def _tiled(p: Product) -> None:
    sizes = (p.rows, p.columns, p.terms)
    launch(
        SOURCE, "matmul_tiled", p.tiles(TILE, TILE), (TILE, TILE),
        p.x.array, p.y.array, p.z, *sizes, *p.strides, *p.batch_arguments,
    )  # fmt: skip


def _blocked(p: Product, **engine: int) -> None:
    tiles, steps = p.tiles(TILE_M, TILE_N), max(1, blocks(p.terms, TILE_K))
    steps_per_chunk = blocks(steps, max(1, min(ENOUGH_BLOCKS // max(1, tiles), steps // FEWEST_STEPS)))
    chunks = blocks(steps, steps_per_chunk)
    results = p.z if chunks == 1 else empty((chunks, *p.z.shape), p.z.dtype, like=p.z)
    z_is_vector = p.columns % 4 == 0 and is_aligned(results)
    launch(
        BLOCKED, "matmul_blocked", (tiles, chunks), GEMM_THREADS,
        p.x.array, p.y.array, results, p.batch, p.rows, p.columns, p.terms, *p.batch_arguments, steps_per_chunk,
        not p.x.is_transposed, p.y.is_transposed, p.x.is_vector, p.y.is_vector, z_is_vector, **FLOAT, **engine,
    )  # fmt: skip
    if chunks > 1:
        n = p.z.size
        launch(BLOCKED, "matmul_add_chunks", blocks(n, THREADS), THREADS, results, p.z, n, chunks, **FLOAT)


VERSIONS = {
    "blocked": _blocked,
    "tiled": _tiled,
    "naive": _naive,
    "tf32": functools.partial(_blocked, **{TENSOR_CORES: 1}),
}


# ---------------------------------------------------------------------------------------- the kernel
def _forward(
    version: str, x: Any, y: Any, bias: Any = None, *, transpose_x: bool = False, transpose_y: bool = False
) -> Any:
    """z[.., i, k] = bias[k] + sum over j of x[.., i, j] y[.., j, k]; transposed: the last two axes are swapped."""
    (x, transpose_x), (y, transpose_y) = as_it_lies(x, transpose_x), as_it_lies(y, transpose_y)
    batch, rows, columns, terms = sizes_of(x, y, transpose_x, transpose_y)
    z = empty((*batch, rows, columns), x.dtype, like=x)

    runs = _runs(batch, x.shape[:-2], y.shape[:-2])
    if len(runs) > 2:  # rare: then a copy with all matrices of the batch
        x, y = (contiguous(array_module(a).broadcast_to(a, (*batch, *a.shape[-2:]))) for a in (x, y))
        runs = [(math.prod(batch), True, True)]
    (_, *outer), (inner, *inner_moves) = [(1, False, False)] * (2 - len(runs)) + runs
    operands = [
        Operand(a, is_transposed, *_batch_strides(a, inner, in_outer, in_inner))
        for a, is_transposed, in_outer, in_inner in zip((x, y), (transpose_x, transpose_y), outer, inner_moves)
    ]
    VERSIONS[choose(version, z.dtype)](Product(*operands, z, math.prod(batch), rows, columns, terms, inner))
    if bias is not None:
        z += bias
    return z


def _runs(batch: tuple[int, ...], *shapes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The axes of the batch, neighbors taken together where the same operands move from matrix to matrix along them.

    (length, x moves, y moves) for each run of axes; axes of length 1 count for nothing.
    """
    aligned = [(1,) * (len(batch) - len(shape)) + shape for shape in shapes]
    axes = [(n, *(length == n for length in lengths)) for n, *lengths in zip(batch, *aligned) if n != 1]
    return [
        (math.prod(n for n, *_ in group), *moves)
        for moves, group in ((m, list(g)) for m, g in itertools.groupby(axes, key=lambda axis: axis[1:]))
    ]


def _batch_strides(a: Any, inner: int, moves_in_outer: bool, moves_in_inner: bool) -> tuple[int, int]:
    """Elements from matrix to matrix along the two axes of the batch."""
    matrix = a.shape[-2] * a.shape[-1]
    return (matrix * (inner if moves_in_inner else 1) if moves_in_outer else 0), (matrix if moves_in_inner else 0)


IMPLEMENTATIONS = {version: {"forward": functools.partial(_forward, version)} for version in VERSIONS}
forward = IMPLEMENTATIONS["blocked"]["forward"]
