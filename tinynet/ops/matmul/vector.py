"""matmul of a matrix and a vector: each number of the matrix serves once, so all that counts is to read it in order.

Two ways to sum, by how the matrix lies: along its rows, a dot product for each number of the result; or row by row,
each times its number of the vector, added to all of the result.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._cpu.reduction import REDUCTION
from . import blocked
from .operands import as_it_lies, sizes_of, starts

TERMS = 256  # added up before they are added to the result: less rounding error
ALONE = 1_000_000  # numbers of the matrix: with fewer, waking the other threads would take longer than the work


def forward(
    x: np.ndarray,
    y: np.ndarray,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """z[.., i, k] = sum over j of x[.., i, j] y[.., j, k]; a transposed operand has its last two axes swapped first."""
    (x, transpose_x), (y, transpose_y) = as_it_lies(x, transpose_x), as_it_lies(y, transpose_y)
    batch, rows, columns, terms = sizes_of(x, y, transpose_x, transpose_y)
    if x.dtype not in (np.float32, np.float64) or not (rows == 1 or columns == 1):
        return blocked.forward(x, y, transpose_x=transpose_x, transpose_y=transpose_y)
    z = memory.empty((*batch, rows, columns), x.dtype)
    # A row times a matrix is the transposed matrix times a column.
    m, v, is_transposed = (x, y, transpose_x) if columns == 1 else (y, x, not transpose_y)
    threads = 1 if m.size < ALONE else numba.get_num_threads()
    if not (z.size and terms):
        z[...] = 0
    else:
        (_add_rows if is_transposed else _dot_rows)(
            threads, m.reshape(-1), starts(m, batch), v.reshape(-1), starts(v, batch), z.reshape(-1),
            rows * columns, terms,
        )  # fmt: skip
    return z


@jit(parallel=True)
def _dot_rows(threads, m, m_starts, v, v_starts, z, count, terms):
    if threads == 1:
        _dots(0, count, m, m_starts, v, v_starts, z, count, terms)
    else:
        for i in prange(threads):
            thread = np.int64(i)  # prange may give an unsigned index: the function below would be compiled for both
            first, end = thread * count // threads, (thread + 1) * count // threads
            _dots(first, end, m, m_starts, v, v_starts, z, count, terms)


@jit(parallel=True)
def _add_rows(threads, m, m_starts, v, v_starts, z, count, terms):
    if threads == 1:
        _sums(0, count, m, m_starts, v, v_starts, z, count, terms)
    else:
        for i in prange(threads):
            thread = np.int64(i)
            first, end = thread * count // threads, (thread + 1) * count // threads
            _sums(first, end, m, m_starts, v, v_starts, z, count, terms)


@jit(fastmath=REDUCTION)
def _dots(first, end, m, m_starts, v, v_starts, z, count, terms):
    """z[i] = sum over j of m[i, j] v[j] for first <= i < end, in every matrix."""
    for matrix in range(len(m_starts)):
        factors = v[v_starts[matrix] : v_starts[matrix] + terms]
        for i in range(first, end):
            start = m_starts[matrix] + i * terms
            row, total = m[start : start + terms], z.dtype.type(0)
            for j in range(terms):
                total += row[j] * factors[j]
            z[matrix * count + i] = total


@jit(fastmath=REDUCTION)
def _sums(first, end, m, m_starts, v, v_starts, z, count, terms):
    """z[i] = sum over j of m[j, i] v[j] for first <= i < end, in every matrix."""
    width = end - first
    part = np.empty(width, z.dtype)
    for matrix in range(len(m_starts)):
        total = z[matrix * count + first : matrix * count + end]
        total[:] = 0
        for j0 in range(0, terms, TERMS):
            part[:] = 0
            for j in range(j0, min(j0 + TERMS, terms)):
                start = m_starts[matrix] + j * count + first
                row, factor = m[start : start + width], v[v_starts[matrix] + j]
                for i in range(width):
                    part[i] += row[i] * factor
            for i in range(width):
                total[i] += part[i]
