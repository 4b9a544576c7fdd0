"""Vectors by themselves: register blocks, products of any number of rows, tile transforms, other machines."""

import numpy as np
import pytest
from numba.core.errors import TypingError
from processes import needs_x86, python

from tinynet.backends.numba import simd
from tinynet.backends.numba.jit import jit
from tinynet.ops._cpu.gemm import blocks_of, multiply, multiply_transposed
from tinynet.ops._cpu.strided import strided

DTYPES = [np.float32, np.float64]
rng = np.random.default_rng(0)


def integers(*shape, dtype):
    """Small integers as floats: their sums are exact."""
    return rng.integers(-5, 6, shape).astype(dtype)


def views(layout, *shapes, dtype):
    """Arrays of these shapes: contiguous, or parts of larger arrays with a gap behind each row."""
    if layout == "contiguous":
        return [integers(*shape, dtype=dtype) for shape in shapes]
    return [integers(*shape[:-1], shape[-1] + 3, dtype=dtype)[..., 2:-1] for shape in shapes]


@jit
def product(a, b, start, c):
    multiply(a, b, start, c)


@jit
def transposed_product(a, b, start, c):
    multiply_transposed(a, b, start, c)


# ------------------------------------------------------------------------------------- products of matrices
@pytest.mark.parametrize("layout", ["contiguous", "with gaps"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 5, 30])
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("call", [product, transposed_product])
def test_products_of_any_number_of_rows(call, vectors, rows, dtype, layout):
    k, width = 7, vectors * simd.lanes_of(dtype)
    a, b, c, row = views(layout, (rows, k), (k, width), (rows, width), (1, width), dtype=dtype)
    if call is transposed_product:
        a = np.ascontiguousarray(a.T)
    expected = (a.T if call is transposed_product else a) @ b
    for start in (None, row[0], c):
        with_start = expected + (0 if start is None else start)
        call(a, b, start, c)
        np.testing.assert_array_equal(c, with_start)


@pytest.mark.parametrize("vectors", [1, 2])
def test_a_product_writes_its_rows_and_no_others(vectors):
    width = vectors * simd.lanes_of(np.float32)
    b = integers(7, width, dtype=np.float32)
    for rows in range(40):
        a, memory = integers(rows, 7, dtype=np.float32), np.full((rows + 40, width), np.nan, np.float32)
        product(a, b, None, memory[20 : rows + 20])
        np.testing.assert_array_equal(memory[20 : rows + 20], a @ b)
        assert np.isnan(memory[:20]).all() and np.isnan(memory[rows + 20 :]).all(), rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", [product, transposed_product])
def test_the_products_of_stacks_are_summed(call, dtype):
    stack, rows, k, width = 3, 9, 4, 2 * simd.lanes_of(dtype)
    shape = (stack, k, rows) if call is transposed_product else (stack, rows, k)
    a, b, start, c = (integers(*s, dtype=dtype) for s in (shape, (stack, k, width), (width,), (rows, width)))
    call(a, b, start, c)
    np.testing.assert_array_equal(
        c, start + np.einsum("skr,skn->rn" if call is transposed_product else "srk,skn->rn", a, b)
    )


def test_without_a_reduction_dimension_the_product_is_the_start():
    c = np.full((3, simd.lanes_of(np.float32)), np.nan, np.float32)
    product(np.empty((3, 0), np.float32), np.empty((0, c.shape[1]), np.float32), np.ones(c.shape[1], np.float32), c)
    assert (c == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("step", [0, 1, 3, 40])
@pytest.mark.parametrize("rows", [1, 5, 16, 30])
@pytest.mark.parametrize("vectors", [1, 2])
def test_rows_of_the_result_may_overlap(vectors, rows, step, dtype):
    """Each row is stored before the next one is loaded: the gradient of a convolution's input is computed so."""
    k, width = 7, vectors * simd.lanes_of(dtype)
    a, b, total = (integers(*s, dtype=dtype) for s in ((rows, k), (k, width), ((rows - 1) * step + width,)))
    expected = total.copy()
    for r, product_of_row in enumerate(a @ b):
        expected[r * step : r * step + width] += product_of_row
    c = np.lib.stride_tricks.as_strided(total, (rows, width), (step * total.itemsize, total.itemsize))
    product(a, b, c, c)
    np.testing.assert_array_equal(total, expected)


def test_rows_of_a_may_overlap():
    """As they do in a convolution: the windows of an image row, seen as a matrix."""
    row, width = integers(12, dtype=np.float32), simd.lanes_of(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(row, 5)
    b, c = integers(5, width, dtype=np.float32), np.empty((8, width), np.float32)
    product(np.lib.stride_tricks.as_strided(row, windows.shape, windows.strides), b, np.zeros(width, np.float32), c)
    np.testing.assert_array_equal(c, windows @ b)


@pytest.mark.parametrize("odd", range(4))
def test_arrays_of_different_dtypes_are_refused(odd):
    arrays = [np.zeros((16, 16), np.float64 if i == odd else np.float32) for i in range(4)]
    with pytest.raises(TypingError, match="must have one dtype, float32 or float64"):
        product(*arrays)


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_are_cut_into_blocks_of_one_or_two_vectors(dtype):
    lanes = simd.lanes_of(dtype)
    assert lanes == simd.VECTOR_BYTES // np.dtype(dtype).itemsize
    assert blocks_of(1, dtype) == blocks_of(lanes, dtype) == (lanes, 1)
    assert blocks_of(lanes + 1, dtype) == blocks_of(2 * lanes, dtype) == (2 * lanes, 1)
    assert blocks_of(2 * lanes + 1, dtype) == (2 * lanes, 2)


# ------------------------------------------------------------------------------------- transforms of tiles
BT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1.0]])
G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [0, 0, 1]])
MATRICES = pytest.mark.parametrize("matrix", [BT, BT.T, G, G.T], ids=["BT", "B", "G", "GT"])


@MATRICES
@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_is_two_matrix_products_and_writes_nothing_else(matrix, dtype):
    transform = simd.gather(matrix)

    @jit
    def run(image, y, x, stack, t, c):
        transform(image, y, x, stack[:, t], c)

    k, n = matrix.shape
    lanes = simd.lanes_of(dtype)
    image = rng.standard_normal((n + 3, n + 2, 3 * lanes)).astype(dtype)
    stack = np.full((k * k, 4, 3 * lanes), np.nan, dtype)
    run(image, 2, 1, stack, 3, lanes)
    tile = image[2 : 2 + n, 1 : 1 + n, lanes : 2 * lanes].astype(np.float64)
    expected = np.einsum("ai,bj,ijl->abl", matrix, matrix, tile).reshape(k * k, lanes)
    actual = stack[:, 3, lanes : 2 * lanes].copy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=20 * np.finfo(dtype).eps * np.abs(expected).max())
    stack[:, 3, lanes : 2 * lanes] = np.nan
    assert np.isnan(stack).all()


@MATRICES
@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_is_the_way_back_with_a_bias(matrix, dtype):
    transform = simd.scatter(matrix)

    @jit
    def run(stack, t, image, y, x, c, bias):
        transform(stack[:, t], image, y, x, c, bias)

    k, n = matrix.shape
    lanes = simd.lanes_of(dtype)
    stack = rng.standard_normal((n * n, 4, 3 * lanes)).astype(dtype)
    bias = rng.standard_normal(3 * lanes).astype(dtype)
    image = np.full((k + 3, k + 2, 3 * lanes), np.nan, dtype)
    run(stack, 2, image, 2, 1, lanes, bias)
    tile = stack[:, 2, lanes : 2 * lanes].astype(np.float64).reshape(n, n, lanes)
    expected = np.einsum("ai,bj,ijl->abl", matrix, matrix, tile) + bias[lanes : 2 * lanes]
    part = image[2 : 2 + k, 1 : 1 + k, lanes : 2 * lanes]
    np.testing.assert_allclose(part, expected, rtol=0, atol=20 * np.finfo(dtype).eps * np.abs(expected).max())
    part[...] = np.nan
    assert np.isnan(image).all()


# ------------------------------------------------------------------------------------- views
@jit
def view_of(a, shape, strides):
    return strided(a, shape, strides)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_strided_sees_what_numpy_sees(dtype):
    a = np.arange(60, dtype=dtype).reshape(5, 12)[1:, 3:]
    size = a.itemsize
    for shape, strides in [((4, 9), a.strides), ((3, 4), (0, 2 * size)), ((2, 3, 4), (12 * size, 2 * size, size))]:
        expected = np.lib.stride_tricks.as_strided(a, shape, strides)
        np.testing.assert_array_equal(view_of(a, shape, strides), expected)
    assert view_of(a, (0, 3), (size, size)).shape == (0, 3)


@jit
def sum_of_zeros(count):
    return strided(np.zeros(3), (count, 3), (0, 8)).sum()


def test_a_strided_view_keeps_its_memory():
    assert sum_of_zeros(1000) == 0
    fresh = view_of(np.full(100_000, 7.0), (2, 50_000), (400_000, 8))  # no name but the view holds the array
    np.testing.assert_array_equal(fresh + np.zeros((2, 50_000)), 7)


# ------------------------------------------------------------------------------------- other machines
# What Numba is told of another machine. Without the features it would take those of this one.
MACHINES = {
    "AVX-512": {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": ""},
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    "neither": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""},
}
COUNT = """
import llvmlite.binding, numba, numpy as np, re
from tinynet.backends.numba import simd

block = simd.register_block(simd.ROWS_OF_2, 2)

@numba.njit
def call(a, b, start, c):
    block(a, b, start, c, 0)

a = np.ones((simd.ROWS_OF_2, 50), np.float32)
b = np.ones((50, 2 * simd.lanes_of(np.float32)), np.float32)
c = np.empty((len(a), b.shape[1]), np.float32)
arguments = a, b, b[0] - 1, c
call.compile(tuple(numba.typeof(argument) for argument in arguments))
# Many processors cannot run what is compiled for AVX-512: they would end this process.
if simd.VECTOR_BYTES < 64 or llvmlite.binding.get_host_cpu_features().get("avx512f"):
    call(*arguments)
    assert (c == 50).all()
(code,) = call.inspect_asm().values()
"""


@needs_x86
@pytest.mark.parametrize(("machine", "vector_bytes"), [("AVX-512", 64), ("AVX2", 32), ("neither", 16)])
def test_the_width_of_vectors_is_that_of_the_machine(machine, vector_bytes):
    code = COUNT + "print(simd.VECTOR_BYTES, 'vfmadd' in code)"
    assert python(code, **MACHINES[machine]) == f"{vector_bytes} {machine != 'neither'}"


@needs_x86
@pytest.mark.slow
@pytest.mark.parametrize(("machine", "tests"), [
    ("AVX2", ["tests/test_ops.py", "tests/test_fusion.py", "-k", "agrees_with_the_reference or fusion"]),
    ("neither", ["tests/test_ops.py", "-k", "agrees_with_the_reference"]),  # `rows` is not fused
])  # fmt: skip
def test_all_rooms_are_right_on_another_machine(machine, tests):
    """The table of all kernels, and a step of the U-Net, compiled for a machine that this one can stand in for."""
    code = f"import pytest, sys; sys.exit(pytest.main({[*tests, '-q', '-x', '-p', 'no:cacheprovider']}))"
    assert " passed" in python(code, **MACHINES[machine])
