"""The two inner loops of `depthwise`: a vector of neighboring channels, whose sums stay in registers.

Numba does not vectorize these loops, because it cannot know that the arrays do not overlap and keeps sums in memory. So
they are written as LLVM instructions, as in backends/numba/simd.py. The last vector of channels ends at the last
channel: if their number is no multiple of the lanes, it overlaps the vector before.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...backends.numba.simd import INDEX, Vectors, View


def outputs_block(outputs: int, kernel: tuple[int, int] | None = None) -> Callable:
    """block(image, x, step, w, start, results): neighboring outputs of a row, for Numba kernels.

    results[j, c] = start[c] + sum over ky, kx of image[ky, x + j * step + kx, c] w[ky, kx, c] for j < outputs.
    All pixels must lie in the image. A weight is loaded once for all outputs. kernel: (KH, KW) of w, whose taps are
    then written out one by one, so that a pixel is loaded once, too. None: w may have any size.
    """

    @intrinsic
    def block(typing_context, image, x, step, w, start, results):
        def generate(context, builder, signature, arguments):
            views = (View(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 4, 5))
            pixels, weights, first, goal = views
            _, x, step, *_ = arguments
            simd = Vectors(builder, image.dtype)
            sums = [cgutils.alloca_once(builder, simd.kind) for _ in range(outputs)]

            def add_tap(weight, pixel) -> None:
                weight = simd.load(weight)
                for total in sums:
                    builder.store(simd.multiply_add(simd.load(pixel), weight, builder.load(total)), total)
                    pixel = pixels.at(step, None, base=pixel)

            with _vectors(simd, pixels.shape[-1]) as (_, c):
                for total in sums:
                    builder.store(simd.load(first.at(c)), total)
                corner = pixels.at(x, c)
                if kernel:
                    for ky, kx in itertools.product(*map(range, kernel)):
                        add_tap(weights.at(ky, kx, c), pixels.at(ky, kx, None, base=corner))
                else:
                    for_range = functools.partial(cgutils.for_range, builder)
                    with for_range(weights.shape[0]) as ky, for_range(weights.shape[1]) as kx:
                        tap = ky.index, kx.index
                        add_tap(weights.at(*tap, c), pixels.at(*tap, None, base=corner))
                for j, total in enumerate(sums):
                    simd.store(builder.load(total), goal.at(j, c))
            return context.get_dummy_value()

        index = types.intp
        return types.void(image, index, index, w, start, results), generate

    return block


def weights_block(rows: int, taps: int) -> Callable:
    """block(image, y, x, step, g, total): what a row of outputs adds to the gradient of `rows` rows of weights.

    total[ky, kx, c] += sum over o of image[y + ky, x + o * step + kx, c] g[o, c] for ky < rows, kx < taps. All pixels
    must lie in the image. total (rows, taps, C + lanes): the columns from C on are for the last vector of channels, if
    it overlaps another one. A gradient is loaded once for all weights. With less than 8 weights, two outputs are added
    to sums of their own, because an addition takes 4 cycles.
    """
    kernel, chains = tuple(itertools.product(range(rows), range(taps))), 1 if rows * taps >= 8 else 2

    @intrinsic
    def block(typing_context, image, y, x, step, g, total):
        def generate(context, builder, signature, arguments):
            pixels, gradients, goal = (View(context, builder, signature.args[i], arguments[i]) for i in (0, 4, 5))
            _, y, x, step, *_ = arguments
            simd = Vectors(builder, image.dtype)
            sums = [[cgutils.alloca_once(builder, simd.kind) for _ in kernel] for _ in range(chains)]
            zero, one, many = (ir.Constant(INDEX, number) for number in (0, 1, chains))
            count = gradients.shape[0]
            whole = builder.mul(builder.sdiv(count, many), many)

            def add_output(o, c, slots: list) -> None:
                gradient, corner = simd.load(gradients.at(o, c)), pixels.at(y, builder.add(x, builder.mul(o, step)), c)
                for tap, slot in zip(kernel, slots):
                    value = simd.load(pixels.at(*tap, None, base=corner))
                    builder.store(simd.multiply_add(value, gradient, builder.load(slot)), slot)

            with _vectors(simd, pixels.shape[-1]) as (column, c):
                for slot in itertools.chain(*sums):
                    builder.store(simd.constant(0.0), slot)
                with cgutils.for_range_slice(builder, zero, whole, many) as (o, _):
                    for j, slots in enumerate(sums):
                        add_output(builder.add(o, ir.Constant(INDEX, j)), c, slots)
                with cgutils.for_range_slice(builder, whole, count, one) as (o, _):
                    add_output(o, c, sums[0])
                for tap, *slots in zip(kernel, *sums):
                    _add(simd, slots, goal.at(*tap, column))
            return context.get_dummy_value()

        index = types.intp
        return types.void(image, index, index, index, g, total), generate

    return block


def _add(simd: Vectors, slots: list, place) -> None:
    """Add sums to the vector in memory at an address."""
    value = simd.load(place)
    for slot in slots:
        value = simd.builder.fadd(value, simd.builder.load(slot))
    simd.store(value, place)


@contextlib.contextmanager
def _vectors(simd: Vectors, channels) -> Iterator[tuple]:
    """A loop over vectors of channels: (the column of its sums, the first channel)."""
    builder, lanes = simd.builder, ir.Constant(INDEX, simd.lanes)
    with cgutils.for_range_slice(builder, ir.Constant(INDEX, 0), channels, lanes) as (first, _):
        last = builder.sub(channels, lanes)
        overlaps = builder.icmp_signed(">", first, last)
        yield builder.select(overlaps, channels, first), builder.select(overlaps, last, first)
