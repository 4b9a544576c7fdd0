"""The inner loops of max-pooling, on one vector of neighbouring channels at a time.

Written for LLVM directly, like the register block of `ops/simd.py`, which introduces the technique. Numba would
vectorise a loop over channels, too, but with 16 channels that loop is a single turn, and what it costs to start one
(are there enough channels, do the arrays overlap?) is more than the turn itself. Here a window's maximum stays in a
register.

Each function exists twice: for as many channels as a vector holds, and for one.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._cpu.old_simd import VECTOR_BYTES


def _lanes(x: types.Array, whole_vector: bool) -> int:
    return VECTOR_BYTES * 8 // x.dtype.bitwidth if whole_vector else 1


def _vector(kind: types.Type, lanes: int) -> ir.VectorType:
    """The LLVM type of `lanes` numbers of a Numba type."""
    scalars = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int32: ir.IntType(32)}
    return ir.VectorType(scalars[kind], lanes)


def _address(context, builder, array_type: types.Array, array, offset, lanes: int):
    """Pointer to the vector that starts at array[offset]."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _vector(array_type.dtype, lanes).as_pointer())


def _spread(builder, value, lanes: int):
    """A vector with the scalar, as an int32, in all lanes."""
    number, vector = ir.IntType(32), ir.VectorType(ir.IntType(32), lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, builder.trunc(value, number), ir.Constant(number, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(vector, [0] * lanes))


def _largest(whole_vector: bool) -> Callable:
    """largest(x, x0, rows, columns, x_row, x_pixel, first, width, y, y0, indices): the window that starts at x[x0].

    The window has `rows` x `columns` pixels, its rows x_row and its pixels x_pixel apart in x. The maxima go to y[y0:],
    their places to indices[y0:]: `first` is the place of the first pixel, and the row below has `width` more. NaN is
    larger than any number; a tie goes to the first.
    """

    @intrinsic
    def largest(typing_context, x, x0, rows, columns, x_row, x_pixel, first, width, y, y0, indices):
        i = types.intp
        lanes = _lanes(x, whole_vector)
        align = x.dtype.bitwidth // 8

        def generate(context, builder, signature, arguments):
            x_array, x0, rows, columns, x_row, x_pixel, first, width, y_array, y0, indices_array = arguments

            def pixel(offset):
                return builder.load(_address(context, builder, x, x_array, offset, lanes), align=align)

            best = cgutils.alloca_once_value(builder, pixel(x0))
            where = cgutils.alloca_once_value(builder, _spread(builder, first, lanes))
            with cgutils.for_range(builder, rows, intp=x0.type) as row:
                start = builder.add(x0, builder.mul(row.index, x_row))
                number = builder.add(first, builder.mul(row.index, width))
                with cgutils.for_range(builder, columns, intp=x0.type) as column:
                    value = pixel(builder.add(start, builder.mul(column.index, x_pixel)))
                    champion = builder.load(best)
                    # "Unordered or greater": also where a NaN is involved. If the champion is one, it stays.
                    wins = builder.and_(
                        builder.fcmp_unordered(">", value, champion), builder.fcmp_ordered("ord", champion, champion)
                    )
                    here = _spread(builder, builder.add(number, column.index), lanes)
                    builder.store(builder.select(wins, value, champion), best)
                    builder.store(builder.select(wins, here, builder.load(where)), where)
            builder.store(builder.load(best), _address(context, builder, y, y_array, y0, lanes), align=align)
            target = _address(context, builder, indices, indices_array, y0, lanes)
            builder.store(builder.load(where), target, align=4)
            return context.get_dummy_value()

        return types.void(x, i, i, i, i, i, i, i, y, i, indices), generate

    return largest


def _placed(whole_vector: bool) -> Callable:
    """placed(g, g0, indices, i0, here, total, t0): total[t0:] = g[g0:] where indices[i0:] is `here`, else 0."""

    @intrinsic
    def placed(typing_context, g, g0, indices, i0, here, total, t0):
        i = types.intp
        lanes = _lanes(g, whole_vector)
        align = g.dtype.bitwidth // 8

        def generate(context, builder, signature, arguments):
            g_array, g0, indices_array, i0, here, total_array, t0 = arguments
            value = builder.load(_address(context, builder, g, g_array, g0, lanes), align=align)
            where = builder.load(_address(context, builder, indices, indices_array, i0, lanes), align=4)
            is_here = builder.icmp_signed("==", where, _spread(builder, here, lanes))
            zero = ir.Constant(value.type, None)
            target = _address(context, builder, total, total_array, t0, lanes)
            builder.store(builder.select(is_here, value, zero), target, align=align)
            return context.get_dummy_value()

        return types.void(g, i, indices, i, i, total, i), generate

    return placed


# Named here, in a module: Numba can cache kernels that use them.
largest_of_vector, largest_of_one = _largest(True), _largest(False)
placed_vector, placed_one = _placed(True), _placed(False)
