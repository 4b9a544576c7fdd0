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
kernels call. `b` and `c` are contiguous along the lanes. A vector is as wide as the machine's registers: 64 bytes with
AVX-512, of which it has 32; 32 bytes with AVX2, of which it has 16, so that the blocks are smaller. Elsewhere the
default kernels are plain Numba.

Beside it stand `tile_transform`, the other half of Winograd's convolution: small matrices applied to tiles of vectors;
and `transpose_tile`, for operands that lie the wrong way round.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.extending import intrinsic


# What the blocks are cut for. LLVM is asked what it makes of a multiply-add of 64 bytes for the machine it compiles
# for: with AVX-512 one instruction on a 64-byte register (zmm), with AVX2 two on 32-byte ones (ymm).
def _vector_bytes() -> int:
    """The bytes of a vector register with multiply-add: 64, 32, or 0 where LLVM finds neither."""
    vector = ir.VectorType(ir.FloatType(), 16)
    module = ir.Module()
    probe = ir.Function(module, ir.FunctionType(vector, [vector] * 3), "probe")
    builder = ir.IRBuilder(probe.append_basic_block())
    multiply_add = cgutils.get_or_insert_function(module, probe.function_type, "llvm.fma.v16f32")
    builder.ret(builder.call(multiply_add, probe.args))
    machine = cpu_target.target_context.codegen()._tm
    assembly = machine.emit_assembly(llvm.parse_assembly(str(module)))
    if "vfmadd" not in assembly:
        return 0
    return 64 if "zmm" in assembly else 32


REGISTER_BYTES = _vector_bytes()
VECTOR_BYTES = REGISTER_BYTES or 32
# The largest blocks whose accumulators, with two vectors of b and one of a, fit into the registers: 32 or 16.
ROWS_OF_1, ROWS_OF_2 = (16, 8) if VECTOR_BYTES == 64 else (12, 6)
A, B, START, C = 0, 5, 11, 13  # positions of the arrays among a block's arguments


def lanes_of(dtype: np.dtype) -> int:
    """How many numbers of this dtype one vector holds: with AVX-512 16 float32 or 8 float64."""
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


def tile_transform(matrix: np.ndarray) -> Callable:
    """A function for Numba kernels that computes T d T^t of a square tile d, for one vector of channels.

    matrix: T, of shape (k, n). The function is called as transform(d, d0, d_row, d_column, t, t0, t_row, t_column) with
    flat, contiguous arrays of one float dtype: the vector of tile element (i, j) starts at d[d0 + i * d_row +
    j * d_column], that of the k x k result at t[t0 + i * t_row + j * t_column]. First T is applied to the columns of
    d, then to the rows of what that gives. Zeros of the matrix cost nothing, ones an addition.
    """
    k, n = matrix.shape

    @intrinsic
    def transform(typing_context, d, d0, d_row, d_column, t, t0, t_row, t_column):
        i = types.intp

        def generate(context, builder, signature, arguments):
            d, d0, d_row, d_column, t, t0, t_row, t_column = arguments
            array = signature.args[0]
            scalar = ir.FloatType() if array.dtype == types.float32 else ir.DoubleType()
            align = array.dtype.bitwidth // 8
            vector = ir.VectorType(scalar, VECTOR_BYTES // align)

            def address(which: int, data, start, row, column, i: int, j: int):
                base = context.make_array(signature.args[which])(context, builder, data).data
                offset = builder.add(start, builder.mul(row, ir.Constant(row.type, i)))
                offset = builder.add(offset, builder.mul(column, ir.Constant(row.type, j)))
                return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

            def combine(weights: np.ndarray, vectors: list):
                """The sum of weight * vector."""
                total = None
                for weight, v in zip(weights.tolist(), vectors):
                    if weight == 0:
                        continue
                    if abs(weight) != 1:
                        v = builder.fmul(v, ir.Constant(vector, [abs(weight)] * vector.count), flags=["contract"])
                    if total is None:
                        total = v if weight > 0 else builder.fneg(v)
                    else:
                        total = (builder.fadd if weight > 0 else builder.fsub)(total, v, flags=["contract"])
                return total

            tile = [
                [builder.load(address(0, d, d0, d_row, d_column, i, j), align=align) for j in range(n)]
                for i in range(n)
            ]
            columns = [[combine(matrix[i], [tile[r][j] for r in range(n)]) for j in range(n)] for i in range(k)]
            for i in range(k):
                for j in range(k):
                    result = combine(matrix[j], columns[i])
                    builder.store(result, address(4, t, t0, t_row, t_column, i, j), align=align)
            return context.get_dummy_value()

        return types.void(d, i, i, i, t, i, i, i), generate

    return transform


@intrinsic
def transpose_tile(typing_context, a, a0, a_row, t, t0, t_row):
    """t[j, i] = a[i, j] for a square tile with a vector to each side; for Numba kernels.

    Flat, contiguous arrays of one float dtype: a[i, j] is at a[a0 + i * a_row + j], t[j, i] at t[t0 + j * t_row + i].
    Read number by number it would take a load and a store each. Instead, whole rows are loaded, and swapped piece by
    piece: cut the tile into four quarters and swap the two off the diagonal; then do the same within each quarter, and
    so on down to single numbers. A swap is two shuffles of two vectors, for as many vectors as the tile has rows.
    """
    i = types.intp

    def generate(context, builder, signature, arguments):
        a, a0, a_row, t, t0, t_row = arguments
        array = signature.args[0]
        scalar = ir.FloatType() if array.dtype == types.float32 else ir.DoubleType()
        align = array.dtype.bitwidth // 8
        lanes = VECTOR_BYTES // align
        vector = ir.VectorType(scalar, lanes)
        mask_type = ir.VectorType(ir.IntType(32), lanes)

        def address(which: int, data, start, row, r: int):
            base = context.make_array(signature.args[which])(context, builder, data).data
            offset = builder.add(start, builder.mul(row, ir.Constant(row.type, r)))
            return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

        rows = [builder.load(address(0, a, a0, a_row, r), align=align) for r in range(lanes)]
        piece = lanes // 2
        while piece:
            # Positions in which the bit `piece` is 0 lie in a left quarter, r likewise in an upper one.
            keep_left = [p if not p & piece else lanes + p - piece for p in range(lanes)]
            keep_right = [p + piece if not p & piece else lanes + p for p in range(lanes)]
            for r in range(lanes):
                if not r & piece:
                    upper, lower = rows[r], rows[r + piece]
                    rows[r] = builder.shuffle_vector(upper, lower, ir.Constant(mask_type, keep_left))
                    rows[r + piece] = builder.shuffle_vector(upper, lower, ir.Constant(mask_type, keep_right))
            piece //= 2
        for r in range(lanes):
            builder.store(rows[r], address(3, t, t0, t_row, r), align=align)
        return context.get_dummy_value()

    return types.void(a, i, i, t, i, i), generate


# The shapes in use. Named here, in a module: Numba can cache kernels that use them.
block_of_2 = register_block(ROWS_OF_2, 2)
block_of_1 = register_block(ROWS_OF_1, 1)
# Where the rows lie side by side in memory, their addresses cost no registers and more of them fit.
TALL_OF_2, TALL_OF_1 = (12, 24) if VECTOR_BYTES == 64 else (6, 12)
tall_of_2 = register_block(TALL_OF_2, 2)
tall_of_1 = register_block(TALL_OF_1, 1)
block_4x2 = register_block(4, 2)
block_4x1 = register_block(4, 1)
block_1x2 = register_block(1, 2)
block_1x1 = register_block(1, 1)
