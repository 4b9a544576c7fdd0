"""matmul, `blocked`: the sums of the definition, computed with the register blocks of `ops/simd.py`. How:

* A register block holds 8 rows x 32 columns of z (less with AVX2): for each term it loads 32 numbers of y and 8 of x.
* x and y are read where they lie. Only where the 32 numbers of y do not lie side by side, because y is transposed or
  its rows end before, are they copied: up to TERMS rows of them into a *panel*, small enough for the first cache and
  filled up with zeros. All blocks below each other use it.
* A task is 32 columns of some rows of z. Tasks are independent, each thread computes its share of them. The order in
  which an element is summed never depends on how the work was shared: the result is the same in each run.

Why not BLAS? Its threads wait spinning for the next product, on the cores that the threads of all other kernels need:
the training step of a small net took twice as long, with a data loader beside it ten times.

float64 takes the same code with half as many lanes.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._cpu.old_simd import ROWS_OF_1, lanes_of, transpose_tile
from .._cpu.register_rows import multiply_rows
from . import blas
from .operands import as_it_lies, sizes_of, starts

TERMS = 256  # of a panel: 32 KB, with AVX-512
FEWEST_ROWS, MOST_ROWS = 64, 512  # of a task: enough for a panel to be worth writing, and few enough for the caches
ALONE = 4_000_000  # multiply-adds: with fewer, waking the other threads would take longer than the work


def forward(
    x: np.ndarray,
    y: np.ndarray,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """z[.., i, k] = sum over j of x[.., i, j] y[.., j, k]; a transposed operand has its last two axes swapped first."""
    if x.dtype not in (np.float32, np.float64):  # integers, above all
        return blas.forward(x, y, transpose_x=transpose_x, transpose_y=transpose_y)
    (x, transpose_x), (y, transpose_y) = as_it_lies(x, transpose_x), as_it_lies(y, transpose_y)
    batch, rows, columns, terms = sizes_of(x, y, transpose_x, transpose_y)
    z = memory.empty((*batch, rows, columns), x.dtype)
    if not (z.size and terms):
        z[...] = 0
        return z
    x_strides = (1, rows) if transpose_x else (terms, 1)  # to the next row, to the next term
    y_strides = (1, terms) if transpose_y else (columns, 1)  # to the next term, to the next column
    matrices, lanes = math.prod(batch), lanes_of(x.dtype)
    width = 2 * lanes if columns > lanes else lanes
    threads = 1 if z.size * terms < ALONE else numba.get_num_threads()
    rows_of_task = _rows_of_task(rows, matrices * -(-columns // width), threads)
    _share(
        threads, x.reshape(-1), starts(x, batch), x_strides, y.reshape(-1), starts(y, batch), y_strides, z.reshape(-1),
        (matrices, rows, columns, terms), rows_of_task, width, lanes,
    )  # fmt: skip
    return z


def _rows_of_task(rows: int, others: int, threads: int) -> int:
    """How many rows of z make a task, where each row is cut into `others` parts: some tasks for each thread."""
    wanted = rows * others // (4 * threads)
    return max(FEWEST_ROWS, min(MOST_ROWS, wanted // ROWS_OF_1 * ROWS_OF_1))


@jit
def _fill_panel(panel, width, lanes, y, y0, y_strides, terms, columns):
    """panel[j * width + k] = y[j, k] for j < terms, k < columns; zeros in the columns that are left."""
    term_stride, column_stride = y_strides
    terms_done, columns_done = 0, 0
    if term_stride == 1:  # transposed: the terms of a column lie side by side
        terms_done, columns_done = terms // lanes * lanes, columns // lanes * lanes
        for k in range(0, columns_done, lanes):
            for j in range(0, terms_done, lanes):
                transpose_tile(y, y0 + j + k * column_stride, column_stride, panel, j * width + k, width)
    for j in range(terms):
        row, source = panel[j * width : (j + 1) * width], y0 + j * term_stride
        for k in range(columns_done if j < terms_done else 0, columns):
            row[k] = y[source + k * column_stride]
        row[columns:] = 0


@jit
def _tasks(first, end, x, x_starts, x_strides, y, y_starts, y_strides, z, sizes, rows_of_task, width, lanes):
    """Tasks first .. end - 1. They are counted by matrix, rows, and columns."""
    _, rows, columns, terms = sizes
    panels = (columns + width - 1) // width
    parts = (rows + rows_of_task - 1) // rows_of_task
    panel = np.empty(min(TERMS, terms) * width, x.dtype)
    tile = np.empty(rows_of_task * width, x.dtype)
    zeros = np.zeros(width, x.dtype)
    for task in range(first, end):
        matrix, row = task // (parts * panels), task // panels % parts * rows_of_task
        column = task % panels * width
        rows_here, columns_here = min(rows_of_task, rows - row), min(width, columns - column)
        z0 = (matrix * rows + row) * columns + column
        is_whole = columns_here == width  # then straight to z; at the edge by way of a tile
        c, c0, c_row = (z, z0, columns) if is_whole else (tile, 0, width)
        for term in range(0, terms, TERMS):
            terms_here = min(TERMS, terms - term)
            y0 = y_starts[matrix] + term * y_strides[0] + column * y_strides[1]
            x0 = x_starts[matrix] + row * x_strides[0] + term * x_strides[1]
            if is_whole and y_strides[1] == 1:
                b, b0, b_row = y, y0, y_strides[0]
            else:
                _fill_panel(panel, width, lanes, y, y0, y_strides, terms_here, columns_here)
                b, b0, b_row = panel, 0, width
            multiply_rows(
                rows_here, width > lanes, x, x0, x_strides, b, b0, b_row, terms_here, zeros, c, c0, c_row, term > 0
            )
        if not is_whole:
            for r in range(rows_here):
                for k in range(columns_here):
                    z[z0 + r * columns + k] = tile[r * width + k]


@jit(parallel=True)
def _share(threads, x, x_starts, x_strides, y, y_starts, y_strides, z, sizes, rows_of_task, width, lanes):
    """All tasks, by so many threads."""
    matrices, rows, columns, _ = sizes
    tasks = matrices * ((rows + rows_of_task - 1) // rows_of_task) * ((columns + width - 1) // width)
    if threads == 1:
        _tasks(0, tasks, x, x_starts, x_strides, y, y_starts, y_strides, z, sizes, rows_of_task, width, lanes)
    else:
        for i in prange(threads):
            thread = np.int64(i)  # prange may give an unsigned index: the functions below would be compiled for both
            first, end = thread * tasks // threads, (thread + 1) * tasks // threads
            _tasks(first, end, x, x_starts, x_strides, y, y_starts, y_strides, z, sizes, rows_of_task, width, lanes)
