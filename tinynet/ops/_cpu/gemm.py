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
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...backends.numba.simd import INDEX, ROWS_OF_1, ROWS_OF_2, Vectors, View, check_dtypes, lanes_of, write_block


def blocks_of(columns: int, dtype: np.dtype) -> tuple[int, int]:
    """(width, number) of the blocks that `columns` columns are cut into; the last block may need padding."""
    lanes = lanes_of(dtype)
    width = 2 * lanes if columns > lanes else lanes
    return width, -(-columns // width)


def _product(transposed: bool) -> Callable:
    """The product as LLVM code, which is written where it is called: a call would take as long as a few rows."""

    @intrinsic
    def product(typing_context, a, b, start, c):
        check_dtypes("product", a, b, start, c)

        def generate(context, builder, signature, arguments):
            operands = [View.of(context, builder, *pair) for pair in zip(signature.args, arguments)]
            simd, columns = Vectors(builder, a.dtype), operands[3].shape[1]
            is_wide = builder.icmp_unsigned(">", columns, ir.Constant(INDEX, simd.lanes))
            with builder.if_else(is_wide) as (two_vectors, one_vector):
                with two_vectors:
                    _write_rows(simd, operands, (ROWS_OF_2, 4, 1), 2, transposed)
                with one_vector:
                    _write_rows(simd, operands, (ROWS_OF_1, 8, 4, 1), 1, transposed)
            return context.get_dummy_value()

        return types.void(a, b, start, c), generate

    return product


def _write_rows(simd: Vectors, operands: list, heights: tuple[int, ...], vectors: int, transposed: bool) -> None:
    """Write a loop for each height of register blocks: as many blocks as fit into the rows that are left."""
    builder, left, row = simd.builder, operands[3].shape[0], ir.Constant(INDEX, 0)
    for height in heights:
        blocks, rest = (divide(left, ir.Constant(INDEX, height)) for divide in (builder.udiv, builder.urem))
        if height == 6:
            # One block less if two or three rows would be left and stay alone: two blocks of four take them.
            are_lonely = builder.icmp_unsigned("==", builder.lshr(rest, ir.Constant(INDEX, 1)), ir.Constant(INDEX, 1))
            are_enough = builder.icmp_unsigned(">=", left, ir.Constant(INDEX, 8))
            blocks = builder.sub(blocks, builder.zext(builder.and_(are_lonely, are_enough), INDEX))
        with cgutils.for_range(builder, blocks) as loop:
            first = builder.add(row, builder.mul(loop.index, ir.Constant(INDEX, height)))
            write_block(simd, operands, first, (height, vectors), transposed)
        done = builder.mul(blocks, ir.Constant(INDEX, height))
        row, left = builder.add(row, done), builder.sub(left, done)


multiply = _product(transposed=False)
multiply_transposed = _product(transposed=True)
