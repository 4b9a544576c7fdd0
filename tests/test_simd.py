"""The explicit vectors by themselves: the register block, the tile transform, and the widths of other machines."""

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from processes import needs_x86, python

from tinynet.ops import register_rows
from tinynet.ops.conv2d.winograd import AT2, BT2, BT4, G4
from tinynet.ops.simd import VECTOR_BYTES, block_4x2, lanes_of, tile_transform, transpose_tile


@numba.njit
def call(a, b, start, c, lanes, accumulate):
    """c (4, 2 lanes) from a (2, 3, 4) and b (2, 3, 2 lanes), all flat: sums over the first two axes."""
    block_4x2(a, 0, 1, 4, 12, b, 0, 2 * lanes, 6 * lanes, 3, 2, start, 0, c, 0, 2 * lanes, accumulate)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("accumulate", [0, 1])
def test_a_block_is_the_sum_it_says(dtype, accumulate):
    rng = np.random.default_rng(0)
    lanes = lanes_of(dtype)
    assert lanes == VECTOR_BYTES // np.dtype(dtype).itemsize
    shapes = (2, 3, 4), (2, 3, 2 * lanes), (2 * lanes,), (4, 2 * lanes)
    a, b, start, c = (rng.integers(-5, 6, shape).astype(dtype) for shape in shapes)  # sums of these are exact
    want = start + np.einsum("okr,okj->rj", a, b) + accumulate * c
    call(a.reshape(-1), b.reshape(-1), start, c.reshape(-1), lanes, accumulate)
    np.testing.assert_array_equal(c, want)


@pytest.mark.parametrize("odd", range(4))
def test_arrays_of_different_dtypes_are_refused(odd):
    arrays = [np.zeros(200, np.float64 if i == odd else np.float32) for i in range(4)]
    with pytest.raises(TypingError, match="a, b, start and c must have one float dtype"):
        call(*arrays, 16, 0)


@pytest.mark.parametrize("matrix", [BT2, AT2, AT2.T, BT4, G4], ids=["BT2", "AT2", "A2", "BT4", "G4"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tile_transform_is_the_two_matrix_products(matrix, dtype):
    transform = tile_transform(matrix)

    @numba.njit
    def transformed(d, d_row, d_column, t, t_row, t_column):
        transform(d, 3, d_row, d_column, t, 5, t_row, t_column)

    k, n = matrix.shape
    lanes = lanes_of(dtype)
    d = np.random.default_rng(1).standard_normal((n, n + 2, 2, lanes)).astype(dtype)  # gaps between the vectors
    t = np.full(5 + (k + 1) * (k + 3) * lanes, np.nan, dtype)
    flat = np.concatenate([np.zeros(3, dtype), d.reshape(-1)])
    transformed(flat, (n + 2) * 2 * lanes, 2 * lanes, t, (k + 3) * lanes, lanes)
    got = t[5:].reshape(k + 1, k + 3, lanes)
    want = np.einsum("ai,bj,ijl->abl", matrix, matrix, d[:, :n, 0].astype(np.float64))
    np.testing.assert_allclose(got[:k, :k], want, rtol=0, atol=20 * np.finfo(dtype).eps * np.abs(want).max())
    assert np.isnan(got[k]).all() and np.isnan(got[:, k:]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 5, 30])
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("multiply", [register_rows._by_blocks, register_rows._by_loops], ids=["blocks", "loops"])
def test_products_of_any_number_of_rows(multiply, vectors, rows, dtype):
    rng = np.random.default_rng(2)
    width, terms = vectors * lanes_of(dtype), 7
    a, b, c = (rng.integers(-5, 6, shape).astype(dtype) for shape in ((terms, rows + 1), (terms, width), (rows, width)))
    zeros = np.zeros(width, dtype)
    for accumulate in (1, 0):  # a is transposed in memory, and its first column left out
        want = a[:, 1:].T @ b + accumulate * c
        flat = a.reshape(-1), 1, (1, rows + 1), b.reshape(-1), 0, width, terms, zeros, c.reshape(-1), 0, width
        multiply(rows, vectors == 2, *flat, accumulate)
        np.testing.assert_array_equal(c, want)


@numba.njit
def transposed(a, a_row, t, t_row):
    transpose_tile(a, 3, a_row, t, 5, t_row)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tile_is_transposed_and_nothing_else_is_written(dtype):
    lanes = lanes_of(dtype)
    a = np.arange(3 + lanes * (lanes + 2), dtype=dtype)
    t = np.full(5 + lanes * (lanes + 1), np.nan, dtype)
    transposed(a, lanes + 2, t, lanes + 1)
    got = t[5:].reshape(lanes, lanes + 1)
    np.testing.assert_array_equal(got[:, :lanes], a[3:].reshape(lanes, lanes + 2)[:, :lanes].T)
    assert np.isnan(got[:, lanes]).all() and np.isnan(t[:5]).all()


# What Numba is told of another machine. Without the features it would take those of this one.
MACHINES = {
    "AVX-512": {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": ""},
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    "neither": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""},
}


@needs_x86
@pytest.mark.parametrize(("machine", "register_bytes", "default"), [
    ("AVX-512", 64, "winograd2"), ("AVX2", 32, "winograd2"), ("neither", 0, "rows"),
])  # fmt: skip
def test_the_width_and_the_default_are_chosen_by_the_machine(machine, register_bytes, default):
    code = """
from tinynet.kernels import implementations
from tinynet.ops.simd import REGISTER_BYTES
print(REGISTER_BYTES, implementations("conv2d", "cpu")[0])
"""
    assert python(code, **MACHINES[machine]) == f"{register_bytes} {default}"


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
