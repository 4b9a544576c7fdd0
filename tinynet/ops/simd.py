"""The register block: the one piece of explicit SIMD in tinynet, and what makes its convolutions fast.

Why it exists. A CPU core can do two vector multiply-adds per cycle, each on 64 bytes (16 float32), but it
can load only two vectors per cycle. A loop that loads both operands of every multiply-add, or the result it
adds to, is bound by the loads and reaches a fraction of the peak. The way out is to *reuse what has been
loaded*: keep a small block of results in registers and update all of it with few loads,

    for k:                                                    # the numbers that are summed
        load b[k, 0:V]                                        # V vectors
        for r in 0..R-1:
            acc[r, 0:V] += a[r, k] * b[k, 0:V]                # one scalar, spread over all lanes

which makes R x V multiply-adds out of R + V loads. The block must fit into the registers: 8 x 2 accumulators,
2 vectors of b and 1 of a are 19 of the 32 that AVX-512 has. With many more, the compiler would spill them to
memory and lose everything that was gained.

Why it is LLVM code. Numba turns a local array into memory, not registers, and its vectoriser does not find
this pattern. So `register_block(R, V)` writes the loop above for LLVM directly, as a function that Numba
kernels call. `b` and `c` are contiguous along the lanes. LLVM maps 64-byte vectors to whatever the machine
has: one AVX-512 register, two of AVX2, four of NEON. With the latter two, blocks this large do not fit into
the registers: the results are right all the same, the speed is not what it could be.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

VECTOR_BYTES = 64
A, B, START, C = 0, 5, 11, 13  # positions of the arrays among a block's arguments


def lanes_of(dtype: np.dtype) -> int:
    """How many numbers of this dtype one vector holds: 16 float32 or 8 float64."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def register_block(rows: int, vectors: int) -> Callable:
    """A function for Numba kernels that computes a block of `rows` x (`vectors` * lanes) numbers:

    c[r, j] (+)= start[j] + sum over o < outer, k < inner of a[o, k, r] * b[o, k, j]

    It is called as block(a, a0, a_row, a_inner, a_outer, b, b0, b_inner, b_outer, inner, outer,
    start, start0, c, c0, c_row, accumulate). All arrays are flat, contiguous and of one dtype. For an operand
    such as `a`, the element for (o, k, r) is at a[a0 + o * a_outer + k * a_inner + r * a_row]; along j, the
    lanes, b, start and c are contiguous. With accumulate = 1 the sum is added to c, with 0 it replaces c.
    """

    @intrinsic
    def block(
        typing_context, a, a0, a_row, a_inner, a_outer, b, b0, b_inner, b_outer, inner, outer,
        start, start0, c, c0, c_row, accumulate,
    ):  # fmt: skip
        i = types.intp
        if len({array.dtype for array in (a, b, start, c)}) > 1 or a.dtype not in (types.float32, types.float64):
            raise TypingError(f"register block: a, b, start and c must have one float dtype; they are {a, b, start, c}")
        signature = types.void(a, i, i, i, i, b, i, i, i, i, i, start, i, c, i, i, i)

        def generate(context, builder, signature, arguments):
            (_, a0, a_row, a_inner, a_outer, _, b0, b_inner, b_outer, inner, outer,
             _, start0, _, c0, c_row, accumulate) = arguments  # fmt: skip
            array = signature.args[A]
            lanes = VECTOR_BYTES // (array.dtype.bitwidth // 8)
            scalar = ir.FloatType() if array.dtype == types.float32 else ir.DoubleType()
            vector = ir.VectorType(scalar, lanes)
            index = a0.type
            number_type = "f32" if array.dtype == types.float32 else "f64"
            multiply_add = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}{number_type}"
            )

            def pointer(argument: int, offset):
                """Address of an element of one of the four arrays."""
                data = context.make_array(signature.args[argument])(context, builder, arguments[argument]).data
                return builder.gep(data, [offset])

            def times(value, constant: int):
                return builder.mul(value, ir.Constant(index, constant))

            def vector_at(base, offset: int):
                """Pointer to the vector that starts `offset` vectors after the scalar pointer `base`."""
                address = builder.gep(base, [ir.Constant(index, offset * lanes)])
                return builder.bitcast(address, vector.as_pointer())

            def spread(value):
                """A vector with the scalar in all lanes."""
                undefined = ir.Constant(vector, ir.Undefined)
                first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
                return builder.shuffle_vector(
                    first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                )

            # Stack slots that LLVM turns into registers; element alignment, as arrays start anywhere.
            align = array.dtype.bitwidth // 8
            slots = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
            start_base = pointer(START, start0)
            for v in range(vectors):
                first = builder.load(vector_at(start_base, v), align=align)
                for r in range(rows):
                    builder.store(first, slots[r][v])

            with cgutils.for_range(builder, outer, intp=index) as o:
                a_base = pointer(A, builder.add(a0, builder.mul(o.index, a_outer)))
                b_base = pointer(B, builder.add(b0, builder.mul(o.index, b_outer)))
                with cgutils.for_range(builder, inner, intp=index) as k:
                    a_k = builder.gep(a_base, [builder.mul(k.index, a_inner)])
                    b_k = builder.gep(b_base, [builder.mul(k.index, b_inner)])
                    b_vectors = [builder.load(vector_at(b_k, v), align=align) for v in range(vectors)]
                    for r in range(rows):
                        a_spread = spread(builder.load(builder.gep(a_k, [times(a_row, r)])))
                        for v in range(vectors):
                            total = builder.call(multiply_add, [a_spread, b_vectors[v], builder.load(slots[r][v])])
                            builder.store(total, slots[r][v])

            is_accumulating = builder.icmp_signed("!=", accumulate, ir.Constant(index, 0))
            for r in range(rows):
                c_base = pointer(C, builder.add(c0, times(c_row, r)))
                for v in range(vectors):
                    address = vector_at(c_base, v)
                    total = builder.load(slots[r][v])
                    # A branch, not arithmetic: memory that is to be replaced may hold a NaN.
                    with builder.if_else(is_accumulating, likely=False) as (add, replace):
                        with add:
                            old = builder.load(address, align=align)
                            builder.store(builder.fadd(old, total), address, align=align)
                        with replace:
                            builder.store(total, address, align=align)
            return context.get_dummy_value()

        return signature, generate

    return block


# The shapes in use. Named here, in a module: Numba can cache kernels that use them.
block_8x2 = register_block(8, 2)
block_16x1 = register_block(16, 1)
block_12x2 = register_block(12, 2)
block_24x1 = register_block(24, 1)
block_4x2 = register_block(4, 2)
block_4x1 = register_block(4, 1)
block_1x2 = register_block(1, 2)
block_1x1 = register_block(1, 1)
