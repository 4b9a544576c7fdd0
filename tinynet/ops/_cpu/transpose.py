"""Vectors and tiles of a matrix that move as they are, or transposed inside the vector registers."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...backends.numba.simd import LANE, Vectors, View


@intrinsic
def copy_vector(typing_context, a, i, j, t, k, n):
    """t[k, n : n + lanes] = a[i, j : j + lanes], for Numba kernels; a and t are matrices of one float dtype.

    A slice would be copied element by element: Numba does not know that neighbors in a row are neighbors in memory.
    """

    def generate(context, builder, signature, arguments):
        source, target = (View(context, builder, signature.args[p], arguments[p]) for p in (0, 3))
        _, i, j, _, k, n = arguments
        simd = Vectors(builder, a.dtype)
        simd.store(simd.load(source.at(i, j)), target.at(k, n))
        return context.get_dummy_value()

    index = types.intp
    return types.void(a, index, index, t, index, index), generate


@intrinsic
def transpose_tile(typing_context, a, i, j, t, k, n):
    """t[k + c, n + r] = a[i + r, j + c] for r, c < lanes, for Numba kernels; a and t are matrices of one float dtype.

    Element by element this takes a load and a store each. Here whole rows are loaded, and quarters of the tile swapped:
    cut the tile into four quarters and swap the two off the diagonal; then do the same within each quarter, and so on
    down to single elements. A swap is two shuffles of two vectors, for each row of the upper quarters.
    """

    def generate(context, builder, signature, arguments):
        source, target = (View(context, builder, signature.args[p], arguments[p]) for p in (0, 3))
        _, i, j, _, k, n = arguments
        simd = Vectors(builder, a.dtype)
        first, goal, lanes = source.at(i, j), target.at(k, n), simd.lanes
        rows = [simd.load(source.at(r, None, base=first)) for r in range(lanes)]
        piece = lanes // 2
        while piece:
            # The lanes in which the bit `piece` is 0 are a left quarter; rows in which it is 0 are an upper quarter.
            to_upper = [p if not p & piece else lanes + p - piece for p in range(lanes)]
            to_lower = [p + piece if not p & piece else lanes + p for p in range(lanes)]
            masks = [ir.Constant(ir.VectorType(LANE, lanes), order) for order in (to_upper, to_lower)]
            for r in range(lanes):
                if not r & piece:
                    pair = rows[r], rows[r + piece]
                    rows[r], rows[r + piece] = (builder.shuffle_vector(*pair, mask) for mask in masks)
            piece //= 2
        for r, row in enumerate(rows):
            simd.store(row, target.at(r, None, base=goal))
        return context.get_dummy_value()

    index = types.intp
    return types.void(a, index, index, t, index, index), generate
