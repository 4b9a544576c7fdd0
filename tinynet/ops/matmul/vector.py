"""matmul, `vector`: products of a matrix and a vector. Each element of the matrix serves once: it is read in its order.

There are two ways to sum. Along the rows of the matrix, each element of the result is a dot product. If the matrix is
transposed, each of its rows, times its element of the vector, is added to the whole result.
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.reduction import REDUCTION
from .operands import as_it_lies, sizes_of, stack_of

TERMS = 256  # rows that are summed before they are added to the result: less rounding error
ALONE = 1_000_000  # elements of the matrix: with fewer, waking the other threads would take longer than the work


def forward(
    x: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """z[.., i, k] = bias[k] + sum over j of x[.., i, j] y[.., j, k]; transposed: the last two axes are swapped.

    z must have one row or one column.
    """
    (x, transpose_x), (y, transpose_y) = as_it_lies(x, transpose_x), as_it_lies(y, transpose_y)
    batch, rows, columns, terms = sizes_of(x, y, transpose_x, transpose_y)
    z = memory.empty((*batch, rows, columns), x.dtype)
    if not (z.size and terms):
        z[...] = 0 if bias is None else bias
        return z
    # A row times a matrix is the transposed matrix times a column.
    m, v, is_transposed = (x, y, transpose_x) if columns == 1 else (y, x, not transpose_y)
    threads = 1 if m.size < ALONE else numba.get_num_threads()
    (m, m_of), (v, v_of) = stack_of(m, batch), stack_of(v, batch)
    v, totals = v.reshape(len(v), terms), z.reshape(len(m_of), rows * columns)
    _run(threads, m, v, totals, (m_of, v_of), is_transposed)
    if bias is not None:
        z += bias
    return z


@jit
def _run(threads, m, v, z, matrices, is_transposed):
    """All elements of the results, by so many threads."""
    in_parallel(_share, threads, (threads, m, v, z, matrices, is_transposed))


@jit(separate=True)
def _share(thread, threads, m, v, z, matrices, is_transposed):
    """A thread's share of the elements of each result."""
    count = z.shape[1]
    first, end = share_of(thread, threads, count)
    for p in range(len(z)):
        matrix, vector, result = m[matrices[0][p]], v[matrices[1][p]], z[p]
        if is_transposed:
            _add_rows(matrix, first, vector, result[first:end])
        else:
            _dot_rows(matrix[first:end], vector, result[first:end])


@jit(fastmath=REDUCTION)
def _dot_rows(m, v, z):
    """z[i] = sum over j of m[i, j] v[j]."""
    for i in range(len(z)):
        row, total = m[i], z.dtype.type(0)
        for j in range(len(v)):
            total += row[j] * v[j]
        z[i] = total


@jit(fastmath=REDUCTION)
def _add_rows(m, first, v, z):
    """z[i] = sum over j of m[j, first + i] v[j]."""
    part = np.empty(len(z), z.dtype)
    z[:] = 0
    for start in range(0, len(v), TERMS):
        part[:] = 0
        for j in range(start, min(start + TERMS, len(v))):
            row, factor = m[j][first : first + len(z)], v[j]
            for i in range(len(z)):
                part[i] += row[i] * factor
        for i in range(len(z)):
            z[i] += part[i]
