"""Any number of rows by register blocks: the sum of every backward_weight, and products of matrices."""

from __future__ import annotations

from ...backends.numba.jit import jit
from .fastmath import ELEMENTWISE
from .old_simd import (
    REGISTER_BYTES,
    ROWS_OF_1,
    ROWS_OF_2,
    TALL_OF_1,
    TALL_OF_2,
    block_1x1,
    block_1x2,
    block_4x1,
    block_4x2,
    block_of_1,
    block_of_2,
    tall_of_1,
    tall_of_2,
)


@jit
def add_rows(rows, vectors, a, a0, a_inner, a_outer, b, b0, b_inner, b_outer, inner, outer, zeros, c, c0, c_row):
    """c[r, j] += sum over o < outer, k < inner of a[o, k, r] b[o, k, j], for r < rows and one or two vectors of j.

    Element (o, k, r) is at a[a0 + o * a_outer + k * a_inner + r], (r, j) at c[c0 + r * c_row + j]; see simd.py.
    """
    r = 0
    while r < rows:  # as many rows at a time as fit into registers, then what is left over
        left = rows - r
        block = (
            a, a0 + r, 1, a_inner, a_outer, b, b0, b_inner, b_outer, inner, outer,
            zeros, 0, c, c0 + r * c_row, c_row, 1,
        )  # fmt: skip
        if vectors == 2:
            if left >= TALL_OF_2:
                tall_of_2(*block)
                r += TALL_OF_2
            elif left >= 4:
                block_4x2(*block)
                r += 4
            else:
                block_1x2(*block)
                r += 1
        elif left >= TALL_OF_1:
            tall_of_1(*block)
            r += TALL_OF_1
        elif left >= 4:
            block_4x1(*block)
            r += 4
        else:
            block_1x1(*block)
            r += 1


@jit
def _by_blocks(rows, is_wide, a, a0, a_strides, b, b0, b_row, terms, zeros, c, c0, c_row, accumulate):
    a_row, a_term = a_strides
    r = 0
    while r < rows:  # as above
        left = rows - r
        block = (
            a, a0 + r * a_row, a_row, a_term, 0, b, b0, b_row, 0, terms, 1,
            zeros, 0, c, c0 + r * c_row, c_row, accumulate,
        )  # fmt: skip
        if is_wide:
            if left >= ROWS_OF_2:
                block_of_2(*block)
                r += ROWS_OF_2
            elif left >= 4:
                block_4x2(*block)
                r += 4
            else:
                block_1x2(*block)
                r += 1
        elif left >= ROWS_OF_1:
            block_of_1(*block)
            r += ROWS_OF_1
        elif left >= 4:
            block_4x1(*block)
            r += 4
        else:
            block_1x1(*block)
            r += 1


@jit(fastmath=ELEMENTWISE)
def _by_loops(rows, is_wide, a, a0, a_strides, b, b0, b_row, terms, zeros, c, c0, c_row, accumulate):
    a_row, a_term = a_strides
    width = len(zeros)
    for r in range(rows):
        result = c[c0 + r * c_row : c0 + r * c_row + width]
        if not accumulate:
            result[:] = 0
        for j in range(terms):
            factor, row = a[a0 + r * a_row + j * a_term], b[b0 + j * b_row : b0 + j * b_row + width]
            for k in range(width):
                result[k] += factor * row[k]


# c[r, k] (+)= sum over j < terms of a[r, j] b[j, k], for r < rows and one vector of k, or two (is_wide); for Numba
# kernels. Element (r, j) is at a[a0 + r * a_row + j * a_term], a_strides = (a_row, a_term); (j, k) at b[b0 + j * b_row
# + k], (r, k) at c[c0 + r * c_row + k]. zeros: a vector or two. accumulate = 0: c is replaced. By loops where the
# machine has no multiply-add of vectors: each would be a call of a function.
multiply_rows = _by_blocks if REGISTER_BYTES else _by_loops
