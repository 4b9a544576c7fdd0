"""The inner loops of max-pooling, on one vector of neighboring channels at a time.

They are LLVM code, built like the register block of `backends/numba/simd.py`, which introduces the technique. Numba
would vectorize a loop over channels too. But 16 channels are one turn of such a loop, and its start (are there enough
channels, do the arrays overlap?) costs more than the turn itself. Here the maximum of a window stays in a register.

Each function exists three times: for as many channels as a vector holds, for four, and for one.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...backends.numba.simd import INDEX, VECTOR_BYTES, View


class Lanes:
    """Loads and stores of vectors with so many lanes; a value is a float of the array, a place an int32.

    lanes: None for as many as fit into a register.
    """

    def __init__(self, builder, dtype, lanes: int | None) -> None:
        number = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
        self.builder, self.bytes = builder, dtype.bitwidth // 8
        self.lanes = lanes or VECTOR_BYTES // self.bytes
        self.values, self.places = ir.VectorType(number, self.lanes), ir.VectorType(ir.IntType(32), self.lanes)

    def load(self, address, kind: ir.VectorType):
        return self.builder.load(self.builder.bitcast(address, kind.as_pointer()), align=self._alignment(kind))

    def store(self, vector, address) -> None:
        pointer = self.builder.bitcast(address, vector.type.as_pointer())
        self.builder.store(vector, pointer, align=self._alignment(vector.type))

    def broadcast(self, place):
        """A vector with the place, as an int32, in all lanes."""
        undefined, lane_0 = ir.Constant(self.places, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = self.builder.insert_element(undefined, self.builder.trunc(place, ir.IntType(32)), lane_0)
        return self.builder.shuffle_vector(first, undefined, ir.Constant(self.places, [0] * self.lanes))

    def _alignment(self, kind: ir.VectorType) -> int:
        return 4 if kind == self.places else self.bytes


def _largest(lanes: int | None) -> Callable:
    """largest(image, window, y, indices, ox, c): y[ox, c:] = the maxima of a window, indices[ox, c:] = their places.

    image (H, W, C). window: its pixels (first_y, end_y, first_x, end_x), at least one. y, indices: (OW, C), a row of
    the results. A place is iy * W + ix. NaN is larger than any number; of equal values the first is taken.
    """

    @intrinsic
    def largest(typing_context, image, window, y, indices, ox, c):
        def generate(context, builder, signature, arguments):
            pixels, maxima, places = (View(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 3))
            first_y, end_y, first_x, end_x = cgutils.unpack_tuple(builder, arguments[1], 4)
            ox, c = arguments[4:]
            simd, one = Lanes(builder, image.dtype, lanes), ir.Constant(INDEX, 1)

            def value_and_place(iy, ix):
                place = builder.add(builder.mul(iy, pixels.shape[1]), ix)
                return simd.load(pixels.at(iy, ix, c), simd.values), simd.broadcast(place)

            best, where = (cgutils.alloca_once_value(builder, v) for v in value_and_place(first_y, first_x))
            with (
                cgutils.for_range_slice(builder, first_y, end_y, one, INDEX) as (iy, _),
                cgutils.for_range_slice(builder, first_x, end_x, one, INDEX) as (ix, _),
            ):
                (value, here), champion = value_and_place(iy, ix), builder.load(best)
                # "Unordered or greater" is also true if one of the two is NaN. A NaN that is the champion stays.
                wins = builder.and_(
                    builder.fcmp_unordered(">", value, champion), builder.fcmp_ordered("ord", champion, champion)
                )
                builder.store(builder.select(wins, value, champion), best)
                builder.store(builder.select(wins, here, builder.load(where)), where)
            simd.store(builder.load(best), maxima.at(ox, c))
            simd.store(builder.load(where), places.at(ox, c))
            return context.get_dummy_value()

        index = types.intp
        return types.void(image, types.UniTuple(index, 4), y, indices, index, index), generate

    return largest


def _placed(lanes: int | None) -> Callable:
    """placed(g, indices, total, at, c, here): total[ix, c:] = g[ox, c:] where indices[ox, c:] is `here`, else 0.

    g, indices: (OW, C), a row of each. total: (W, C), a row of the result. at: (ox, ix). here: iy * W + ix.
    """

    @intrinsic
    def placed(typing_context, g, indices, total, at, c, here):
        def generate(context, builder, signature, arguments):
            values, places, totals = (View(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 2))
            (ox, ix), (c, here) = cgutils.unpack_tuple(builder, arguments[3], 2), arguments[4:]
            simd = Lanes(builder, g.dtype, lanes)
            value, place = simd.load(values.at(ox, c), simd.values), simd.load(places.at(ox, c), simd.places)
            is_here = builder.icmp_signed("==", place, simd.broadcast(here))
            simd.store(builder.select(is_here, value, ir.Constant(simd.values, None)), totals.at(ix, c))
            return context.get_dummy_value()

        index = types.intp
        return types.void(g, indices, total, types.UniTuple(index, 2), index, index), generate

    return placed


# Named here, in a module, so that Numba can cache the kernels that use them.
largest_of_vector, largest_of_four, largest_of_one = (_largest(lanes) for lanes in (None, 4, 1))
placed_vector, placed_four, placed_one = (_placed(lanes) for lanes in (None, 4, 1))
