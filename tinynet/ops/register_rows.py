"""Any number of rows by register blocks: the sum of every backward_weight."""

from __future__ import annotations

from .jit import jit
from .simd import (
    TALL_OF_1,
    TALL_OF_2,
    block_1x1,
    block_1x2,
    block_4x1,
    block_4x2,
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
