"""matmul, `blocked`: z is cut into panels of one or two vectors of columns, and each panel into register blocks.

* x and y are read where they lie. A part of y is *packed* only if the columns of a panel are not neighbors in y (y is
  transposed, or its rows end within the panel), or if its rows push each other out of the first cache: up to TERMS of
  its rows are copied into a small matrix that fits into the first cache, and padded with zeros. All register blocks of
  a task use it.
* A task is one panel of some rows of z, and a share is several tasks. The order in which an element is summed does not
  depend on the threads: the result is the same in each run.
* Sums with many terms are cut into spans. Each thread has one share then, and does all its tasks for one span, then for
  the next: so it reads x and y from memory once, and from its own cache for all other tasks. With fewer terms there are
  more shares, so that no thread waits long for one that started late.

Why not BLAS? Its threads wait actively for the next product, on the cores that the threads of all other kernels need:
the training step of a small net took twice as long, and ten times as long beside a data loader.
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import ROWS_OF_1, VECTOR_BYTES
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.gemm import blocks_of, multiply, multiply_transposed
from .._cpu.strided import strided
from .._cpu.transpose import copy_vector, transpose_tile
from .operands import as_it_lies, sizes_of, stack_of

# Bytes: rows whose distance is a multiple of this share the places of the first cache, and push each other out of it.
# With AVX-512, fewer register blocks read a panel again, and from the second cache it comes as fast: measured on Zen 4.
APART = 4096 if VECTOR_BYTES == 64 else 256
TERMS = 256  # of a packed part: 32 KB, with AVX-512
SPAN = 1024  # terms: a span of some hundred columns of x and y fits into the second cache
ROWS_TO_PACK_FOR = 96  # of a task: with fewer, packing takes longer than reading from the second cache
FEWEST_ROWS, MOST_ROWS = 64, 512  # of a task: enough for packing what must be packed, and few enough for the caches
SHARES = 4  # for each thread; at least as many tasks
ALONE = 1_000_000  # multiply-adds: with fewer, waking the other threads would take longer than the work


def forward(
    x: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """z[.., i, k] = bias[k] + sum over j of x[.., i, j] y[.., j, k]; transposed: the last two axes are swapped."""
    (x, transpose_x), (y, transpose_y) = as_it_lies(x, transpose_x), as_it_lies(y, transpose_y)
    batch, rows, columns, terms = sizes_of(x, y, transpose_x, transpose_y)
    z = memory.empty((*batch, rows, columns), x.dtype)
    bias = np.zeros(columns, z.dtype) if bias is None else np.ascontiguousarray(bias)
    if not (z.size and terms):
        z[...] = bias
        return z
    (x, x_of), (y, y_of) = stack_of(x, batch), stack_of(y, batch)
    is_small = z.size * terms < ALONE
    threads = 1 if is_small else numba.get_num_threads()
    shares = threads if is_small or terms > SPAN else SHARES * threads
    width, panels = blocks_of(columns, z.dtype)
    most = max(FEWEST_ROWS, min(MOST_ROWS, rows * panels * len(x_of) // (SHARES * threads)))
    sizes = _rows_of_task(rows, most), width
    operands, matrices = (x, y, bias, z.reshape(-1, rows, columns)), (x_of, y_of)
    _run(shares, operands, matrices, (transpose_x, transpose_y), sizes)
    return z


def _rows_of_task(rows: int, most: int) -> int:
    """Rows are cut into tasks of equal height, at most `most` rounded up to whole register blocks."""
    tasks = -(-rows // most)
    return -(-rows // (tasks * ROWS_OF_1)) * ROWS_OF_1


@jit
def _pack(y, panel):
    """panel = a part of y, and zeros in the columns that y does not have."""
    terms, columns = y.shape
    lanes = VECTOR_BYTES // y.itemsize
    whole_columns = columns // lanes * lanes
    for j in range(terms):
        for k in range(0, whole_columns, lanes):
            copy_vector(y, j, k, panel, j, k)
        for k in range(whole_columns, columns):
            panel[j, k] = y[j, k]
    panel[:terms, columns:] = 0


@jit
def _pack_transposed(y, panel):
    """panel = the transpose of a part of y, by tiles as far as they go; zeros in the columns that are left."""
    columns, terms = y.shape
    lanes = VECTOR_BYTES // y.itemsize
    whole_columns, whole_terms = columns // lanes * lanes, terms // lanes * lanes
    for k in range(0, whole_columns, lanes):
        for j in range(0, whole_terms, lanes):
            transpose_tile(y, k, j, panel, j, k)
    for k in range(columns):
        for j in range(whole_terms if k < whole_columns else 0, terms):
            panel[j, k] = y[k, j]
    panel[:terms, columns:] = 0


@jit
def _part_of(y, j, k, is_transposed, rows, panel):
    """y[j, k], or y[k, j] transposed, with the columns of a panel as neighbors: where it lies, or packed."""
    part = panel[: j.stop - j.start]
    if is_transposed:
        _pack_transposed(y[k, j], panel)
    elif k.stop - k.start == panel.shape[1] and (rows < ROWS_TO_PACK_FOR or y.strides[0] % APART):
        part = y[j, k]
    else:
        _pack(y[j, k], panel)
    return part


@jit(separate=True)
def _share(share, shares, operands, matrices, transposed, sizes):
    """A share of all tasks, which are counted by matrices, then by rows, then by panels."""
    x, y, bias, z = operands
    _, rows, columns = z.shape
    rows_of_task, width = sizes
    terms = x.shape[1] if transposed[0] else x.shape[2]
    panels, parts = (columns + width - 1) // width, (rows + rows_of_task - 1) // rows_of_task
    tasks = len(z) * parts * panels
    panel, tile = np.empty((min(TERMS, terms), width), z.dtype), np.empty((rows_of_task, width), z.dtype)
    row_of_bias = np.zeros(width, z.dtype)
    biases = strided(row_of_bias, tile.shape, (0, z.itemsize))  # one row, seen as many
    for span in range(0, terms, SPAN):
        for task in range(*share_of(share, shares, tasks)):
            matrix, row, column = task // (parts * panels), task // panels % parts * rows_of_task, task % panels * width
            i, k = slice(row, min(row + rows_of_task, rows)), slice(column, min(column + width, columns))
            x_matrix, y_matrix, z_part = x[matrices[0][matrix]], y[matrices[1][matrix]], z[matrix, i, k]
            is_whole = column + width <= columns  # then straight to z; at the edge by way of a tile
            c = z_part if is_whole else tile[: i.stop - row]
            if span == 0:
                row_of_bias[: k.stop - column] = bias[k]
            elif not is_whole:
                c[:, : columns - column] = z_part
            for term in range(span, min(span + SPAN, terms), TERMS):
                j = slice(term, min(term + TERMS, terms))
                b = _part_of(y_matrix, j, k, transposed[1], i.stop - row, panel)
                start = biases if term == 0 else c
                if transposed[0]:
                    multiply_transposed(x_matrix[j, i], b, start, c)
                else:
                    multiply(x_matrix[i, j], b, start, c)
            if not is_whole:
                z_part[:] = c[:, : columns - column]


@jit
def _run(shares, operands, matrices, transposed, sizes):
    """All tasks, in so many shares. operands: x, y, bias and z; matrices, transposed: for x and for y."""
    in_parallel(_share, shares, (shares, operands, matrices, transposed, sizes))
