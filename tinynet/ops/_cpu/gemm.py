"""Matrix products for Numba kernels, built from register blocks: any number of rows, one or two vectors of columns.

    multiply(a, b, start, c)               c = start + a b
    multiply_transposed(a, b, start, c)    c = start + a^T b

a (M, K) or, transposed, (K, M); b (K, N); c (M, N); start: None for zeros, a row (N,), or a matrix (M, N), such as c
itself. They are views of one float dtype whose last axis is contiguous. N is one vector or two: see `blocks_of`.
a and b may be stacks of matrices (.., M, K) and (.., K, N): their products are summed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.simd import ROWS_OF_1, ROWS_OF_2, VECTOR_BYTES, lanes_of, register_block


def blocks_of(columns: int, dtype: np.dtype) -> tuple[int, int]:
    """(width, number) of the blocks that `columns` columns are cut into; the last block may need padding."""
    lanes = lanes_of(dtype)
    width = 2 * lanes if columns > lanes else lanes
    return width, -(-columns // width)


def _all_rows(most: int, half: int, vectors: int, transposed: bool) -> Callable:
    """The product by register blocks of `most` rows, then of `half`, 4 and one, for `vectors` vectors of columns."""
    tall, middle, four, one = (register_block(rows, vectors, transposed) for rows in (most, half, 4, 1))

    @jit(inline="always")
    def all_rows(a, b, start, c):
        row, rows = 0, c.shape[0]
        # Of blocks of six, the last two rows would stay alone: two blocks of four take the last eight.
        while row + most <= rows and not (most == 6 and 8 <= rows - row <= 9):
            tall(a, b, start, c, row)
            row += most
        if half > 4 and row + half <= rows:
            middle(a, b, start, c, row)
            row += half
        while row + 4 <= rows:
            four(a, b, start, c, row)
            row += 4
        while row < rows:
            one(a, b, start, c, row)
            row += 1

    return all_rows


def _product(transposed: bool) -> Callable:
    # Inlined, because a call takes as long as a product of a few rows: arrays are handed over by reference counts and
    # copies of their shapes and strides. Inlined into its caller, a view costs nothing.
    two_vectors, one_vector = _all_rows(ROWS_OF_2, 4, 2, transposed), _all_rows(ROWS_OF_1, 8, 1, transposed)

    @jit(inline="always")
    def product(a, b, start, c):
        if c.shape[1] * c.itemsize > VECTOR_BYTES:
            two_vectors(a, b, start, c)
        else:
            one_vector(a, b, start, c)

    return product


multiply = _product(transposed=False)
multiply_transposed = _product(transposed=True)
