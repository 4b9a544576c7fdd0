"""`strided` for Numba kernels. Of NumPy's `as_strided`, Numba compiles three functions for each set of types."""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array


@intrinsic
def strided(typing_context, a, shape, strides):
    """A view of the memory of `a`, from its first element on. shape, strides: tuples; strides are in bytes."""
    kind = types.Array(a.dtype, len(shape), "A")

    def generate(context, builder, signature, arguments):
        source, view = (context.make_array(k)(context, builder, *v) for k, v in ((a, arguments[:1]), (kind, ())))
        sizes, steps = (
            [context.cast(builder, v, k, types.intp) for k, v in zip(numbers, cgutils.unpack_tuple(builder, value))]
            for numbers, value in ((shape, arguments[1]), (strides, arguments[2]))
        )
        populate_array(view, source.data, sizes, steps, source.itemsize, source.meminfo, source.parent)
        return impl_ret_borrowed(context, builder, kind, view._getvalue())

    return kind(a, shape, strides), generate
