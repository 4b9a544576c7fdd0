"""Vectors: the two small loops that plain Numba cannot express. Everything else in the CPU kernels is ordinary Numba.

    register_block    a small matrix product whose results stay in vector registers: most of the time is spent here
    gather, scatter   T d T^t of one tile, one vector of channels at a time: Winograd's transforms

Why a register block. A CPU core can do two vector multiply-adds per cycle, but it can load only two vectors per cycle.
A loop that loads both operands of every multiply-add is bound by the loads. The block *reuses what it has loaded*:

    for k:                                               # the reduction dimension
        load b[k, 0:V]                                   # V vectors
        for r in 0 .. R-1:
            sum[r, 0:V] += a[r, k] * b[k, 0:V]           # one element of a, broadcast to all lanes

That is R x V multiply-adds for R + V loads. The sums must fit into the registers, or the compiler moves them to memory
and back for every k. docs/register_block.md measures which shapes fit.

Why LLVM code. Numba keeps a local array in memory, not in registers, and its vectorizer does not find this pattern. So
`register_block(R, V)` builds the loop above out of LLVM instructions, as a function that Numba kernels can call.

All functions take array *views* as NumPy slicing makes them: `V[s]`, `y[image, row, :, :32]`. A view knows where its
data begins and how far apart its rows are. One rule: neighbors along the last axis must be neighbors in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.extending import intrinsic

INDEX, LANE = ir.IntType(64), ir.IntType(32)


def _vector_bytes() -> int:
    """The bytes of a vector register: LLVM is asked what it makes of the addition of 64 bytes on this machine."""
    vector = ir.VectorType(ir.FloatType(), 16)
    module = ir.Module()
    probe = ir.Function(module, ir.FunctionType(vector, [vector] * 2), "probe")
    builder = ir.IRBuilder(probe.append_basic_block())
    builder.ret(builder.fadd(*probe.args))
    machine = cpu_target.target_context.codegen()._tm
    assembly = machine.emit_assembly(binding.parse_assembly(str(module)))
    return 64 if "zmm" in assembly else 32 if "ymm" in assembly else 16  # AVX-512, AVX2, SSE2 or NEON


VECTOR_BYTES = _vector_bytes()
# Rows of the largest blocks of one and of two vectors whose sums, with two vectors of b and one of a, fit into the
# registers: AVX-512 has 32 of them, the others 16.
ROWS_OF_1, ROWS_OF_2 = (16, 8) if VECTOR_BYTES == 64 else (12, 6)


def lanes_of(dtype: np.dtype) -> int:
    """The number of elements of this dtype in one vector: with AVX-512 16 float32 or 8 float64."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class View:
    """An array argument inside the code that is being written: computes addresses of its elements from strides."""

    def __init__(self, context, builder, kind, value) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder = builder
        self.ndim = kind.ndim
        self.data = builder.bitcast(array.data, cgutils.voidptr_t)
        self.shape = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
        itemsize = ir.Constant(INDEX, kind.dtype.bitwidth // 8)
        self.strides = [*cgutils.unpack_tuple(builder, array.strides, kind.ndim)[:-1], itemsize]

    @classmethod
    def of(cls, context, builder, kind, value) -> View | None:
        """A View, or None if the argument is None."""
        return cls(context, builder, kind, value) if isinstance(kind, types.Array) else None

    def at(self, *indices, base=None):
        """The address of an element, counted from `base` or the first element.

        An index is an int, an LLVM value, or None for 0. With fewer indices than axes, the first axes are left out.
        """
        address = self.data if base is None else base
        for index, stride in zip(indices, self.strides[-len(indices) :]):
            if index is not None:
                index = ir.Constant(INDEX, index) if isinstance(index, int) else index
                address = self.builder.gep(address, [self.builder.mul(index, stride)])
        return address


class Vectors:
    """The instructions that are needed, for vectors of one dtype: load, store, broadcast, multiply-add."""

    def __init__(self, builder, dtype) -> None:
        self.builder = builder
        self.bytes = dtype.bitwidth // 8
        self.number = ir.FloatType() if self.bytes == 4 else ir.DoubleType()
        self.lanes = VECTOR_BYTES // self.bytes
        self.kind = ir.VectorType(self.number, self.lanes)

    def constant(self, number: float) -> ir.Constant:
        return ir.Constant(self.kind, [number] * self.lanes)

    def load(self, address, vector: int = 0):
        return self.builder.load(self._pointer(address, vector), align=self.bytes)

    def store(self, value, address, vector: int = 0) -> None:
        self.builder.store(value, self._pointer(address, vector), align=self.bytes)

    def broadcast(self, address):
        """A vector with the element at this address in all lanes."""
        number = self.builder.load(self.builder.bitcast(address, self.number.as_pointer()))
        undefined, lane_0 = ir.Constant(self.kind, ir.Undefined), ir.Constant(ir.VectorType(LANE, self.lanes), None)
        first = self.builder.insert_element(undefined, number, ir.Constant(LANE, 0))
        return self.builder.shuffle_vector(first, undefined, lane_0)

    def multiply_add(self, a, b, c):
        """a b + c: one instruction with one rounding where the machine has it, else two instructions."""
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.bytes}"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.kind, [self.kind] * 3), name
        )
        return self.builder.call(function, [a, b, c])

    def _pointer(self, address, vector: int):
        """The address of the vector that lies `vector` vectors further."""
        offset = ir.Constant(INDEX, vector * VECTOR_BYTES)
        return self.builder.bitcast(self.builder.gep(address, [offset]), self.kind.as_pointer())


def check_dtypes(name: str, *arguments: types.Type) -> None:
    """Raise TypingError if the arrays among the arguments are not all float32 or all float64."""
    arrays = [kind for kind in arguments if isinstance(kind, types.Array)]
    if len({array.dtype for array in arrays}) > 1 or arrays[0].dtype not in (types.float32, types.float64):
        raise TypingError(f"{name}: all arrays must have one dtype, float32 or float64; they are {arrays}")


# ------------------------------------------------------------------------------------- the matrix product
def register_block(rows: int, vectors: int, transposed: bool = False) -> Callable:
    """block(a, b, start, c, first): rows first .. first + rows - 1 of c = start + a b, for Numba kernels.

    a (M, K), b (K, N), c (M, N), all of one float dtype, with N = vectors * lanes. transposed: a is (K, M), and its
    transpose is multiplied. start: None for zeros; (N,) is added to every row, such as a bias; (M, N) is added row by
    row: with c itself the product is added to what c holds. a and b may be stacks (.., M, K) and (.., K, N), whose
    products are summed. The sum over K (and the stack) is complete before start is added to it.
    """

    @intrinsic
    def block(typing_context, a, b, start, c, first):
        check_dtypes("register block", a, b, start, c)

        def generate(context, builder, signature, arguments):
            operands = [View.of(context, builder, k, v) for k, v in zip(signature.args[:4], arguments)]
            write_block(Vectors(builder, a.dtype), operands, arguments[4], (rows, vectors), transposed)
            return context.get_dummy_value()

        return types.void(a, b, start, c, types.intp), generate

    return block


def write_block(simd: Vectors, operands: Sequence, first, shape: tuple[int, int], transposed: bool) -> None:
    """Write one register block. operands: the Views of a, b, start (or None) and c; shape: rows and vectors."""
    (A, B, S, C), (rows, vectors), builder = operands, shape, simd.builder
    # Stack slots, set to zero, which LLVM turns into registers.
    sums = [[cgutils.alloca_once(builder, simd.kind, zfill=True) for _ in range(vectors)] for _ in range(rows)]
    a_first = (None, first) if transposed else (first, None)

    def add_all(place) -> None:  # place: the indices of a matrix in its stack, as far as they are known
        if len(place) < A.ndim - 2:
            with cgutils.for_range(builder, A.shape[len(place)]) as loop:
                add_all((*place, loop.index))
        else:
            a_base, b_base = A.at(*place, *a_first), B.at(*place, None, None)
            _add_products(simd, sums, (A, a_base), (B, b_base), transposed)

    add_all(())
    _store_sums(simd, sums, S, C, first)


def _add_products(simd: Vectors, sums: list, a: tuple, b: tuple, transposed: bool) -> None:
    """Write the loop over k. a, b: each a View and the address of its first element that takes part."""
    (A, a_base), (B, b_base), builder = a, b, simd.builder
    with cgutils.for_range(builder, B.shape[-2]) as k:
        b_k = B.at(k.index, None, base=b_base)
        b_vectors = [simd.load(b_k, v) for v in range(len(sums[0]))]
        for r, row in enumerate(sums):
            a_rk = simd.broadcast(A.at(*((k.index, r) if transposed else (r, k.index)), base=a_base))
            for slot, b_vector in zip(row, b_vectors):
                builder.store(simd.multiply_add(a_rk, b_vector, builder.load(slot)), slot)


def _store_sums(simd: Vectors, sums: list, S: View | None, C: View, first) -> None:
    """Write c = start + sums, for the rows from `first` on."""
    builder, c_first = simd.builder, C.at(first, None)
    s_first = S and (S.data if S.ndim == 1 else S.at(first, None))
    for r, row in enumerate(sums):
        for v, slot in enumerate(row):
            total = builder.load(slot)
            if S:
                s_r = s_first if S.ndim == 1 else S.at(r, None, base=s_first)
                total = builder.fadd(simd.load(s_r, v), total)
            simd.store(total, C.at(r, None, base=c_first), v)


# ------------------------------------------------------------------------------------- the transforms of a tile
def gather(*factors: np.ndarray) -> Callable:
    """transform(image, y, x, row, c): row[:, c : c + lanes] = T d T^t, for Numba kernels.

    d is the tile that begins at pixel (y, x) of the image (height, width, channels), in channels c .. c + lanes - 1.
    T (k, n), the product of the factors, makes k * k positions of n * n pixels; row: (positions, channels).
    """
    k, n = len(factors[0]), factors[-1].shape[1]

    @intrinsic
    def transform(typing_context, image, y, x, row, c):
        check_dtypes("gather", image, row)

        def generate(context, builder, signature, arguments):
            pixels, positions = (View(context, builder, signature.args[i], arguments[i]) for i in (0, 3))
            _, y, x, _, c = arguments
            simd = Vectors(builder, image.dtype)
            source, target = pixels.at(y, x, c), positions.at(None, c)
            tile = [[simd.load(pixels.at(i, j, None, base=source)) for j in range(n)] for i in range(n)]
            for i, row in enumerate(_both_sides(simd, factors, tile)):
                for j, value in enumerate(row):
                    simd.store(value, positions.at(i * k + j, None, base=target))
            return context.get_dummy_value()

        index = types.intp
        return types.void(image, index, index, row, index), generate

    return transform


def scatter(*factors: np.ndarray) -> Callable:
    """transform(row, image, y, x, c, bias): image[y : y + k, x : x + k, c : c + lanes] = T m T^t + bias.

    The way back: m is row[:, c : c + lanes] as a tile of n * n positions. bias (channels,) is added to each pixel.
    """
    n = factors[-1].shape[1]

    @intrinsic
    def transform(typing_context, row, image, y, x, c, bias):
        check_dtypes("scatter", row, image, bias)

        def generate(context, builder, signature, arguments):
            positions, pixels, start = (View(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 5))
            _, _, y, x, c, _ = arguments
            simd = Vectors(builder, image.dtype)
            source, target, bias_c = positions.at(None, c), pixels.at(y, x, c), simd.load(start.at(c))
            tile = [[simd.load(positions.at(i * n + j, None, base=source)) for j in range(n)] for i in range(n)]
            for i, row in enumerate(_both_sides(simd, factors, tile)):
                for j, value in enumerate(row):
                    simd.store(builder.fadd(value, bias_c), pixels.at(i, j, None, base=target))
            return context.get_dummy_value()

        index = types.intp
        return types.void(row, image, index, index, index, bias), generate

    return transform


def _both_sides(simd: Vectors, factors: tuple[np.ndarray, ...], tile: list) -> list:
    """T d T^t, T the product of the factors: T is applied to the columns of d, then to the rows of the result."""
    columns = zip(*(_product(simd, factors, column) for column in zip(*tile)))
    return [_product(simd, factors, row) for row in columns]


def _product(simd: Vectors, factors: tuple[np.ndarray, ...], vectors: Sequence) -> Sequence:
    """The product of the factors and a column of vectors, from right to left."""
    for factor in reversed(factors):
        vectors = [_combine(simd, weights, vectors) for weights in factor.tolist()]
    return vectors


def _combine(simd: Vectors, weights: list[float], vectors: Sequence) -> ir.Value:
    """The sum of weight * vector. Weights of 1 and -1 cost an addition, others a multiply-add."""
    builder, total = simd.builder, None
    terms = [(weight, v) for weight, v in zip(weights, vectors) if weight != 0]
    for weight, v in sorted(terms, key=lambda term: (abs(term[0]) != 1, term[0] < 0)):
        if abs(weight) != 1:
            factor = simd.constant(weight)
            total = builder.fmul(v, factor) if total is None else simd.multiply_add(v, factor, total)
        elif total is None:
            total = v if weight > 0 else builder.fneg(v)
        else:
            total = (builder.fadd if weight > 0 else builder.fsub)(total, v)
    return total
