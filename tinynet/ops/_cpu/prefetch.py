"""`prefetch`: ask for memory before it is needed, in Numba kernels that read in bursts.

A processor notices that memory is read in order and fetches ahead by itself. A kernel that computes for a thousand
cycles between two bursts of reading breaks that off, and waits for main memory at the start of each burst, some 400
cycles. Asking for the next burst before computing hides the wait.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 16  # float32 in a cache line of 64 bytes: one prefetch fetches so many


@intrinsic
def prefetch(typing_context, x, index):
    """Ask for the cache line of x[index], 64 bytes: a hint without an effect on any value."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), cgutils.voidptr_t)
        number = cgutils.int32_t
        hint = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        to_read, to_the_nearest_cache, of_data = (ir.Constant(number, value) for value in (0, 3, 1))
        function = cgutils.get_or_insert_function(builder.module, hint, "llvm.prefetch.p0")
        builder.call(function, [address, to_read, to_the_nearest_cache, of_data])
        return context.get_dummy_value()

    return types.void(x, types.intp), generate
