"""ELU, sigmoid, ReLU, leaky ReLU, tanh and maxout: outside implementations, special values, planted mistakes.

That tiers agree and that derivatives are right is in test_ops.py.
"""

from __future__ import annotations

import numba
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinynet as tn
from tinynet.backends.registry import implementation_kernel, use_backend, use_kernels
from tinynet.learn.gradcheck import GradientError, check_reference, gradcheck
from tinynet.ops._cpu.fastmath import ELEMENTWISE
from tinynet.ops.elu import cpu as elu

# Name -> the function in float64 by other means.
OUTSIDE = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "sigmoid": scipy.special.expit,
    "relu": lambda x: x * (x > 0),
    "leaky_relu": lambda x: np.maximum(x, x / 10),
    "tanh": np.tanh,
}
TIERS = ["reference", "cpu"]


def run(op: str, x, tier: str = "cpu", **parameters):
    with use_backend(tier):
        return getattr(tn, op)(x, **parameters)


# ------------------------------------------------------------------------------------ values
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("op", OUTSIDE)
def test_few_units_in_the_last_place_over_the_whole_range(op, tier):
    """Relative, not absolute: sigmoid(-80) = 2e-35 must have its digits, and so must tanh(1e-30)."""
    tiny = np.geomspace(1e-30, 1, 5001)
    x = np.concatenate([np.linspace(-87, 87, 50001), tiny, -tiny]).astype(np.float32)
    want = OUTSIDE[op](x.astype(np.float64))
    got = run(op, x, tier)
    assert got.dtype == np.float32
    one_unit = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(got - want) / one_unit) < 4


@settings(deadline=None, max_examples=30)
@given(
    op=st.sampled_from(sorted(OUTSIDE)),
    x=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
        elements=st.floats(-50, 50, width=32),
    ),
)
def test_any_shape(op, x):
    y = run(op, x)
    assert y.shape == x.shape and y.dtype == x.dtype
    np.testing.assert_allclose(y, OUTSIDE[op](x), rtol=1e-5, atol=1e-30)


#                  NaN     inf     -inf    0
SPECIAL = {
    "elu": [np.nan, np.inf, -1.0, 0.0],
    "sigmoid": [np.nan, 1.0, 0.0, 0.5],
    "relu": [np.nan, np.inf, 0.0, 0.0],
    "leaky_relu": [np.nan, np.inf, -np.inf, 0.0],
    "tanh": [np.nan, 1.0, -1.0, 0.0],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("op", SPECIAL)
def test_special_values(op, tier, dtype):
    # Repeated, so that they pass through the vectorised part of the loop and through what is left over.
    x = np.tile(np.array([np.nan, np.inf, -np.inf, 0.0], dtype), 9)
    np.testing.assert_array_equal(run(op, x, tier), np.tile(np.array(SPECIAL[op], dtype), 9))


@pytest.mark.parametrize("op", OUTSIDE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_values_give_no_warning(op, dtype):
    x = np.array([-1e30, -1e4, -1e3, -100, 100, 1e3, 1e4, 1e30], dtype)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(run(op, x, "reference")).all()
    assert np.isfinite(run(op, x, "cpu")).all()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("op", "slope"), [("relu", 0.0), ("leaky_relu", 0.1), ("elu", 1.0)])
def test_derivative_at_the_kink_is_that_of_the_left_side(op, slope, tier):
    with use_backend(tier):
        x = tn.tensor(np.zeros(3), requires_grad=True)
        getattr(tn, op)(x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full(3, slope))


@pytest.mark.parametrize("op", OUTSIDE)
def test_a_nan_gradient_comes_through(op):
    x = tn.tensor(np.full(20, 2.0, np.float32), requires_grad=True)
    gy = np.ones(20, np.float32)
    gy[[3, 19]] = np.nan
    getattr(tn, op)(x).backward(gy)
    assert np.flatnonzero(np.isnan(x.grad.data)).tolist() == [3, 19]


def test_reference_of_tanh_by_complex_step():
    x = np.random.default_rng(0).standard_normal((3, 4))
    backward = implementation_kernel("tanh", "backward", "reference")
    check_reference(np.tanh, lambda gy, x: backward(gy, np.tanh(x)), (x,))


# ------------------------------------------------------------------------------------ ELU by ranges
@numba.njit(fastmath=ELEMENTWISE)
def elu_in_ranges(x, cuts, alpha, y):
    for i in range(cuts.size - 1):
        elu.forward_range(x, cuts[i], cuts[i + 1], alpha, y)


@numba.njit(fastmath=ELEMENTWISE)
def elu_backward_in_ranges(gy, y, cuts, alpha, gx):
    for i in range(cuts.size - 1):
        elu.backward_range(gy, y, cuts[i], cuts[i + 1], alpha, gx)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elu_by_ranges_is_elu(dtype, in_place):
    """What other kernels call: elements before the first and after the last cut are left alone."""
    x, gy = np.random.default_rng(0).standard_normal((2, 999)).astype(dtype)
    cuts, inside, alpha = np.array([3, 4, 4, 21, 998]), slice(3, 998), dtype(0.3)
    want = elu.forward(x, alpha=0.3)
    want_gx = elu.backward(gy, want, alpha=0.3)
    y = x if in_place else np.full_like(x, np.nan)
    gx = gy if in_place else np.full_like(x, np.nan)
    outside = y[[2, 998]].copy(), gx[[2, 998]].copy()
    elu_in_ranges(x, cuts, alpha, y)
    elu_backward_in_ranges(gy, want, cuts, alpha, gx)
    for got, expected, untouched in ((y, want, outside[0]), (gx, want_gx, outside[1])):
        np.testing.assert_allclose(got[inside], expected[inside], rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(got[[2, 998]], untouched)


# ------------------------------------------------------------------------------------ maxout
def test_maxout_takes_neighbouring_channels():
    x = np.array([[3.0, 1.0, 2.0, 5.0, 4.0, 6.0]])
    np.testing.assert_array_equal(tn.maxout(x, 2), [[3, 5, 6]])
    np.testing.assert_array_equal(tn.maxout(x, 3), [[3, 6]])
    np.testing.assert_array_equal(tn.maxout(x, 1), x)


@pytest.mark.parametrize("tier", TIERS)
def test_maxout_tie_goes_to_the_first_and_is_counted_once(tier):
    with use_backend(tier):
        x = tn.tensor([[1.0, 1.0, 1.0, 0.0, 2.0, 2.0]], requires_grad=True)
        tn.maxout(x, 3).backward(np.array([[10, 20]], np.float32))
    np.testing.assert_array_equal(x.grad.data, [[10, 0, 0, 0, 20, 0]])


@pytest.mark.parametrize("tier", TIERS)
def test_maxout_nan_wins_and_gets_the_gradient(tier):
    with use_backend(tier):
        x = tn.tensor([[1.0, np.nan, 5.0], [np.nan, np.nan, np.inf]], requires_grad=True)
        y = tn.maxout(x, 3)
        y.backward(np.ones((2, 1), np.float32))
    assert np.isnan(y.data).all()
    np.testing.assert_array_equal(x.grad.data, [[0, 1, 0], [1, 0, 0]])


@settings(deadline=None, max_examples=30)
@given(data=st.data(), pieces=st.integers(1, 5), units=st.integers(0, 6))
def test_maxout_any_shape(data, pieces, units):
    leading = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    values = hnp.arrays(np.float32, (*leading, units * pieces), elements=st.floats(-9, 9, width=32))
    x = data.draw(values)
    want = x.reshape(*leading, units, pieces).max(axis=-1)
    got = tn.maxout(x, pieces)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


# ------------------------------------------------------------------------------------ errors
@pytest.mark.parametrize("op", [*OUTSIDE, "maxout"])
def test_integers_are_refused(op):
    parameters = {"pieces": 2} if op == "maxout" else {}
    with pytest.raises(TypeError, match=f"{op}: x has dtype int64; a floating-point one is needed"):
        run(op, np.arange(4), **parameters)
    with pytest.raises(TypeError, match=f"{op}: x is a list; a Tensor or an array is needed"):
        run(op, [1.0, 2.0], **parameters)


@pytest.mark.parametrize(
    ("op", "parameters", "error", "message"),
    [
        ("elu", {"alpha": 0.0}, ValueError, "elu: alpha is 0.0; it must be positive"),
        ("elu", {"alpha": np.nan}, ValueError, "elu: alpha is nan; it must be positive"),
        ("leaky_relu", {"slope": -0.1}, ValueError, "leaky_relu: slope is -0.1; it must be positive"),
        ("maxout", {"pieces": 0}, ValueError, "maxout: pieces is 0; it must be at least 1"),
        ("maxout", {"pieces": 2.5}, TypeError, "maxout: pieces is 2.5; an integer is needed"),
        ("maxout", {"pieces": 4}, ValueError, r"maxout: x \(2, 6\) needs channels .* multiple of pieces = 4"),
    ],
)
def test_parameters_out_of_range(op, parameters, error, message):
    with pytest.raises(error, match=message):
        run(op, np.ones((2, 6)), **parameters)


# ------------------------------------------------------------------------------------ planted mistakes
MISTAKES = [
    ("elu", {"alpha": 0.3}, lambda gy, y, *, alpha: np.where(y > 0, gy, gy * (y + 1))),
    ("sigmoid", {}, lambda gy, y: gy * (1 - y)),
    ("relu", {}, lambda gy, y: np.where(y >= 0, gy, 0.0)),
    ("leaky_relu", {}, lambda gy, y, *, slope: np.where(y > 0, gy, slope * y)),
    ("tanh", {}, lambda gy, y: gy * (1 - y)),
    ("maxout", {"pieces": 2}, lambda gy, winner, *, pieces: np.repeat(gy, pieces, axis=-1)),
]


@pytest.mark.parametrize(("op", "parameters", "wrong"), MISTAKES)
def test_gradcheck_finds_the_typical_mistake(op, parameters, wrong):
    x = np.array([[-2.0, 0.5, 1.5, -0.7], [0.3, -0.2, -1.1, 2.2]])

    def function(x):
        return getattr(tn, op)(x, **parameters)

    gradcheck(function, (x,))
    with use_kernels(op, backward=wrong), pytest.raises(GradientError):
        gradcheck(function, (x,))


# ------------------------------------------------------------------------------------ outside framework
@pytest.mark.bench
@pytest.mark.parametrize("op", [*OUTSIDE, "maxout"])
def test_against_pytorch(op):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(3).standard_normal((4, 5, 6, 8)).astype(np.float32)
    theirs = {
        "elu": torch.nn.functional.elu,
        "sigmoid": torch.sigmoid,
        "relu": torch.relu,
        "leaky_relu": lambda t: torch.nn.functional.leaky_relu(t, 0.1),
        "tanh": torch.tanh,
        "maxout": lambda t: t.reshape(4, 5, 6, 4, 2).amax(dim=-1),
    }[op]
    a, b = tn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ya = tn.maxout(a, 2) if op == "maxout" else getattr(tn, op)(a)
    yb = theirs(b)
    gy = np.random.default_rng(4).standard_normal(ya.shape).astype(np.float32)
    ya.backward(gy)
    yb.backward(torch.tensor(gy))
    np.testing.assert_allclose(ya.data, yb.detach().numpy(), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=2e-6, atol=1e-6)
