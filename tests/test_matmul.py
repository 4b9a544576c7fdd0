"""matmul beside the table of test_ops: what is read in place, what the tensor cores round, where sums are cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from op_folders import fetch, on, place, tolerance

from tinynet import cusim
from tinynet.backends.registry import implementation_kernel, implementations, use_kernels
from tinynet.engine.basic_ops import swapaxes
from tinynet.engine.tensor import Tensor
from tinynet.ops.matmul import blocked, cpu, cuda, reference, vector
from tinynet.ops.matmul.op import matmul
from tinynet.ops.matmul.operands import sizes_of

GPU_TIERS = [on("cuda", "cuda"), on("cuda-sim", "cuda-sim")]


def normal(*shape, dtype=np.float32, seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def run(tier, implementation, x, y, **parameters):
    kernel = implementation_kernel("matmul", "forward", tier, implementation)
    return fetch(kernel(place(x, tier), place(y, tier), **parameters))


# ------------------------------------------------------------------------------------- nothing is copied
@pytest.fixture
def launches(monkeypatch):
    """The arguments of every launch, in place of launching."""
    made = []
    monkeypatch.setattr(cuda, "launch", lambda source, kernel, grid, block, *arguments, **_: made.append(arguments))
    return made


@pytest.mark.parametrize(
    "x, y",
    [
        (normal(3, 4), normal(4, 5)),
        (normal(4, 3).T, normal(5, 4).T),
        (normal(2, 4, 3).swapaxes(1, 2), normal(4, 5)),
        (normal(7, 1, 3, 4), normal(6, 4, 5)),
        (normal(2, 3, 1, 3, 4), normal(1, 1, 6, 4, 5)),
    ],
    ids=["plain", "transposed", "transposed stack", "stacks broadcast", "three axes in two runs"],
)
@pytest.mark.parametrize("implementation", implementations("matmul", "cuda"))
def test_operands_are_read_where_they_are(launches, implementation, x, y):
    implementation_kernel("matmul", "forward", "cuda-sim", implementation)(x, y)
    assert np.may_share_memory(launches[0][0], x) and np.may_share_memory(launches[0][1], y)


def test_gradients_transpose_in_the_kernel():
    given = []

    def forward(x, y, **parameters):
        given.append((x, y))
        return reference.forward(x, y, **parameters)

    x, y = Tensor(normal(2, 3), requires_grad=True), Tensor(normal(3, 4), requires_grad=True)
    with use_kernels("matmul", forward=forward):
        (x @ y).backward(np.ones((2, 4), np.float32))
    (_, gx_y), (gy_x, _) = given[1:]
    assert gx_y is y.data and gy_x is x.data


def test_a_product_of_a_transposed_tensor_has_the_right_gradient():
    x, y = Tensor(normal(3, 2), requires_grad=True), Tensor(normal(3, 4), requires_grad=True)
    gz = normal(2, 4, seed=4)
    matmul(swapaxes(x, 0, 1), y).backward(gz)
    np.testing.assert_allclose(x.grad.data, y.data @ gz.T, rtol=1e-6)
    np.testing.assert_allclose(y.grad.data, x.data @ gz, rtol=1e-6)


# ------------------------------------------------------------------------------------- numbers
def rounded_to_tf32(x):
    """To 10 bits of mantissa, the nearest; a number in the middle away from zero."""
    return ((x.view(np.uint32) + np.uint32(1 << 12)) & np.uint32(0xFFFFFFFF << 13 & 0xFFFFFFFF)).view(np.float32)


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("tier", GPU_TIERS)
def test_tensor_cores_round_the_factors_and_nothing_else(tier, transposed):
    n, m, k = 150, 45, 70
    x = normal(*((m, n) if transposed[0] else (n, m)))
    y = normal(*((k, m) if transposed[1] else (m, k)), seed=4)
    actual = run(tier, "tf32", x, y, transpose_x=transposed[0], transpose_y=transposed[1])
    factors = [rounded_to_tf32(a).astype(np.float64) for a in (x, y)]
    expected = reference.forward(*factors, transpose_x=transposed[0], transpose_y=transposed[1])
    exact = reference.forward(x, y, transpose_x=transposed[0], transpose_y=transposed[1])
    scale = np.abs(expected).max()
    assert np.abs(actual - expected).max() / scale < 4 * tolerance(np.float32, m)
    assert np.abs(actual - exact).max() / scale > 4 * tolerance(np.float32, m)


@pytest.mark.parametrize("implementation", implementations("matmul", "cuda"))
@pytest.mark.parametrize("tier", GPU_TIERS)
def test_what_lies_outside_of_the_matrices_is_not_computed_with(tier, implementation):
    """An infinite value changes its own row and column only; times a zero of the padding it would be NaN."""
    x, y = normal(5, 11), normal(11, 7, seed=4)
    x[4, 10], y[10, 6] = np.inf, np.inf
    actual, expected = run(tier, implementation, x, y), reference.forward(x, y)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))


@pytest.mark.parametrize("shape", [(5, 4000, 3), (1, 1000, 600), (130, 300, 1)], ids=str)
@pytest.mark.parametrize("tier", GPU_TIERS)
def test_sums_cut_into_chunks_are_the_same_in_every_order_of_blocks(tier, shape):
    n, m, k = shape
    x, y = normal(n, m), normal(m, k, seed=4)
    results = []
    for order in ("forward", "reversed", "shuffled"):
        with cusim.ordered(order, seed=5):
            results.append(run(tier, "blocked", x, y))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    scale = np.abs(results[0]).max()
    np.testing.assert_allclose(
        results[0] / scale, reference.forward(x, y) / scale, atol=tolerance(np.float32, m), rtol=0
    )


def test_long_sums_of_few_results_occupy_many_blocks(monkeypatch):
    grids = []
    monkeypatch.setattr(cuda, "launch", lambda source, kernel, grid, *_, **__: grids.append((kernel, grid)))
    cuda.forward(normal(16, 100_000), normal(100_000, 16))
    assert [kernel for kernel, _ in grids] == ["matmul_blocked", "matmul_add_chunks"]
    assert grids[0][1][0] * grids[0][1][1] >= 128
    grids.clear()
    cuda.forward(normal(2000, 64), normal(64, 2000))
    assert [kernel for kernel, _ in grids] == ["matmul_blocked"]


@pytest.mark.parametrize("implementation", ["tiled", "naive", "blocked"])
@pytest.mark.parametrize("tier", GPU_TIERS)
def test_more_matrices_than_a_grid_has_blocks(tier, implementation):
    x, y = normal(66_000, 1, 2), normal(2, 1)
    actual = run(tier, implementation, x, y)
    np.testing.assert_allclose(actual, x @ y, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------- the versions on the CPU
@pytest.mark.parametrize(
    ("x_shape", "y_shape", "version"),
    [
        ((64, 64), (64, 64), "blas"),
        ((64, 65), (65, 64), "blocked"),
        ((2, 1, 3, 300), (5, 300, 100), "blocked"),
        ((1, 96), (96, 96), "blas"),
        ((1, 96), (96, 97), "vector"),
        ((200, 96), (96, 1), "vector"),
    ],
)
def test_a_version_is_chosen_by_size(x_shape, y_shape, version):
    x, y = normal(*x_shape), normal(*y_shape)
    sizes = sizes_of(x, y, False, False)
    assert cpu.choose(*sizes, x.dtype) == version
    assert sizes_of(x.swapaxes(-1, -2), y, True, False) == sizes
    assert cpu.choose(*sizes, np.dtype(np.int64)) == "blas"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (2, 1, 300), (2, 300, 1)], ids=str)
def test_products_with_one_row_or_column(shape, dtype):
    *batch, rows, columns = shape
    for transpose_x, transpose_y in itertools.product([False, True], repeat=2):
        x = normal(*batch, *((300, rows) if transpose_x else (rows, 300)), dtype=dtype)
        y = normal(*((columns, 300) if transpose_y else (300, columns)), dtype=dtype, seed=4)
        transposed = {"transpose_x": transpose_x, "transpose_y": transpose_y}
        expected = reference.forward(x.astype("float64"), y.astype("float64"), **transposed)
        actual = vector.forward(x, y, **transposed)
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance(dtype, 300) * np.abs(expected).max())


@pytest.mark.parametrize("version", [blocked, vector])
@pytest.mark.parametrize("transpose_x", [False, True])
def test_sums_do_not_depend_on_how_many_threads_share_them(monkeypatch, version, transpose_x):
    columns = 1 if version is vector else 70
    x, y = normal(600, 700), normal(600 if transpose_x else 700, columns)
    results = []
    for alone in (0, np.inf):
        monkeypatch.setattr(version, "ALONE", alone)
        results.append(version.forward(x, y, transpose_x=transpose_x))
    np.testing.assert_array_equal(*results)


def test_the_edge_of_a_matrix_holds_no_neighbors():
    """Panels are padded with zeros, and infinities times these must not reach the result."""
    x, y = np.full((20, 300), np.inf, np.float32), np.ones((300, 45), np.float32)
    assert np.isposinf(blocked.forward(x, y)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 5, 100, 700])
def test_products_are_right_where_the_rows_of_y_share_places_in_the_cache(rows, dtype):
    x, y = normal(rows, 300, dtype=dtype), normal(300, 1024, dtype=dtype)
    assert y.strides[0] % blocked.APART == 0
    expected = x.astype(np.float64) @ y.astype(np.float64)
    np.testing.assert_allclose(
        blocked.forward(x, y), expected, rtol=0, atol=tolerance(dtype, 300) * abs(expected).max()
    )
