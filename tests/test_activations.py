"""The activations and maxout: outside implementations, special values, planted mistakes.

That tiers agree and that derivatives are right is in test_ops.py.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numba
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinynet as tn
from tinynet.backends.numba.jit import jit
from tinynet.backends.registry import implementation_kernel, ops, use_backend, use_kernels
from tinynet.learn.gradcheck import GradientError, check_reference, gradcheck
from tinynet.ops._cpu.fastmath import ELEMENTWISE
from tinynet.ops.activations.cpu import _inlined, elu_range
from tinynet.ops.activations.entries import ACTIVATIONS


class Row(NamedTuple):
    """What is known of an activation from elsewhere.

    outside: the function in float64 by other means. special: its values at NaN, inf, -inf and 0. wrong: a typical
    mistake in `backward`. at_0: the derivative at 0, as a convention or by the formula.
    """

    outside: object
    special: list
    wrong: object
    at_0: float


NAN, INF = np.nan, np.inf
ROWS = {
    "elu": Row(
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        [NAN, INF, -1.0, 0.0],
        lambda gy, y, *, alpha: np.where(y > 0, gy, gy * (y + 1)),
        1.0,
    ),
    "relu": Row(lambda x: x * (x > 0), [NAN, INF, 0.0, 0.0], lambda gy, y: np.where(y >= 0, gy, 0.0), 0.0),
    "relu6": Row(lambda x: np.clip(x, 0, 6), [NAN, 6.0, 0.0, 0.0], lambda gy, y: np.where(y > 0, gy, 0.0), 0.0),
    "leaky_relu": Row(
        lambda x: np.maximum(x, x / 10),
        [NAN, INF, -INF, 0.0],
        lambda gy, y, *, slope: np.where(y > 0, gy, slope * y),
        0.1,
    ),
    "sigmoid": Row(scipy.special.expit, [NAN, 1.0, 0.0, 0.5], lambda gy, y: gy * (1 - y), 0.25),
    "tanh": Row(np.tanh, [NAN, 1.0, -1.0, 0.0], lambda gy, y: gy * (1 - y), 1.0),
    "softplus": Row(
        lambda x: np.logaddexp(0, x), [NAN, INF, 0.0, np.log(2)], lambda gy, y: gy * scipy.special.expit(y), 0.5
    ),
}
TIERS = ["reference", "cpu"]
by_op = pytest.mark.parametrize("op", ROWS)
by_tier = pytest.mark.parametrize("tier", TIERS)


def run(op: str, x, tier: str = "cpu", **parameters):
    with use_backend(tier):
        return getattr(tn, op)(x, **parameters)


def test_every_entry_is_an_op_with_a_row():
    assert set(ROWS) == set(ACTIVATIONS) == {op for op in ops() if op in ACTIVATIONS}


# ------------------------------------------------------------------------------------ values
@by_tier
@by_op
def test_few_units_in_the_last_place_over_the_whole_range(op, tier):
    """Relative, not absolute: sigmoid(-80) = 2e-35 must have its digits, and so must tanh(1e-30)."""
    tiny = np.geomspace(1e-30, 1, 5001)
    x = np.concatenate([np.linspace(-87, 87, 50001), tiny, -tiny]).astype(np.float32)
    expected = ROWS[op].outside(x.astype(np.float64))
    actual = run(op, x, tier)
    assert actual.dtype == np.float32
    one_unit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    error, smallest = np.abs(actual - expected), np.finfo(np.float32).tiny
    # Kernels count numbers below the smallest one as zero, on the way to a result, too.
    assert np.max(np.where(error < 2 * smallest, 0, error / one_unit)) < 4


@settings(deadline=None, max_examples=30)
@given(
    op=st.sampled_from(sorted(ROWS)),
    x=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
        elements=st.floats(-50, 50, width=32),
    ),
)
def test_any_shape(op, x):
    y = run(op, x)
    assert y.shape == x.shape and y.dtype == x.dtype
    np.testing.assert_allclose(y, ROWS[op].outside(x), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@by_tier
@by_op
def test_special_values(op, tier, dtype):
    # Repeated, so that they pass through the vectorized part of the loop and through what is left over.
    x = np.tile(np.array([NAN, INF, -INF, 0.0], dtype), 9)
    expected = np.tile(np.array(ROWS[op].special, dtype), 9)
    np.testing.assert_array_max_ulp(run(op, x, tier), expected, maxulp=1)


def test_relu6_compiles_without_a_warning():
    """Numba warns of one inlined `where` inside of another. Users would see it when the kernel is first compiled."""
    value, gradient = _inlined(ACTIVATIONS["relu6"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numba.njit(lambda x: value(x, ()))(7.0) == 6
        assert numba.njit(lambda gy, y: gradient(gy, y, ()))(2.0, 3.0) == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@by_op
def test_huge_values_give_no_warning(op, dtype):
    x = np.array([-1e30, -1e4, -1e3, -100, 100, 1e3, 1e4, 1e30], dtype)
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(run(op, x, "reference")).all()
    assert np.isfinite(run(op, x, "cpu")).all()


@by_tier
@by_op
def test_derivative_at_0_and_a_gradient_that_is_nan(op, tier):
    x = tn.tensor(np.zeros(20, np.float32), requires_grad=True)
    gy = np.ones(20, np.float32)
    with use_backend(tier):
        getattr(tn, op)(x).backward(gy)
        np.testing.assert_allclose(x.grad.data, ROWS[op].at_0, rtol=1e-6)
        x = tn.tensor(np.full(20, 2.0, np.float32), requires_grad=True)
        gy[[3, 19]] = NAN
        getattr(tn, op)(x).backward(gy)
    assert np.flatnonzero(np.isnan(x.grad.data)).tolist() == [3, 19]


def test_reference_of_tanh_by_complex_step():
    x = np.random.default_rng(0).standard_normal((3, 4))
    backward = implementation_kernel("tanh", "backward", "reference")
    check_reference(np.tanh, lambda gy, x: backward(gy, np.tanh(x)), (x,))


# ------------------------------------------------------------------------------------ ELU by ranges
@jit(fastmath=ELEMENTWISE)
def elu_in_ranges(x, cuts, alpha, y):
    for i in range(cuts.size - 1):
        elu_range(x, cuts[i], cuts[i + 1], (alpha,), y)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elu_by_ranges_is_elu(dtype, in_place):
    """What other kernels call: elements before the first and after the last cut are left alone."""
    x = np.random.default_rng(0).standard_normal(999).astype(dtype)
    cuts, inside = np.array([3, 4, 4, 21, 998]), slice(3, 998)
    expected = run("elu", x, alpha=0.3)
    y = x if in_place else np.full_like(x, NAN)
    outside = y[[2, 998]].copy()
    elu_in_ranges(x, cuts, dtype(0.3), y)
    np.testing.assert_allclose(y[inside], expected[inside], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(y[[2, 998]], outside)


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
    numbers = st.floats(-9, 9, width=32, allow_subnormal=False)  # to kernels, those are all 0
    values = hnp.arrays(np.float32, (*leading, units * pieces), elements=numbers)
    x = data.draw(values)
    want = x.reshape(*leading, units, pieces).max(axis=-1)
    got = tn.maxout(x, pieces)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


# ------------------------------------------------------------------------------------ errors
@pytest.mark.parametrize(
    ("op", "parameters", "error", "message"),
    [
        ("elu", {"alpha": 0.0}, ValueError, "elu: alpha is 0.0; it must be positive"),
        ("elu", {"alpha": NAN}, ValueError, "elu: alpha is nan; it must be positive"),
        ("leaky_relu", {"slope": -0.1}, ValueError, r"slope is -0.1; it must be positive \(for 0 there is relu\)"),
        ("maxout", {"pieces": 0}, ValueError, "maxout: pieces is 0; it must be at least 1"),
        ("maxout", {"pieces": 2.5}, TypeError, "maxout: pieces is 2.5; an integer is needed"),
        ("maxout", {"pieces": 4}, ValueError, r"maxout: x \(2, 6\) needs channels .* multiple of pieces = 4"),
    ],
)
def test_parameters_out_of_range(op, parameters, error, message):
    with pytest.raises(error, match=message):
        run(op, np.ones((2, 6)), **parameters)


# ------------------------------------------------------------------------------------ planted mistakes
MISTAKES = {op: row.wrong for op, row in ROWS.items()}
MISTAKES["maxout"] = lambda gy, winner, *, pieces: np.repeat(gy, pieces, axis=-1)


@pytest.mark.parametrize("op", MISTAKES)
def test_gradcheck_finds_the_typical_mistake(op):
    x = np.array([[-2.0, 0.5, 1.5, -0.7], [0.3, -0.2, -1.1, 7.2]])

    def function(x):
        return getattr(tn, op)(x, **{"elu": {"alpha": 0.3}, "maxout": {"pieces": 2}}.get(op, {}))

    gradcheck(function, (x,))
    with use_kernels(op, backward=MISTAKES[op]), pytest.raises(GradientError):
        gradcheck(function, (x,))


# ------------------------------------------------------------------------------------ outside framework
@pytest.mark.bench
@pytest.mark.parametrize("op", MISTAKES)
def test_against_pytorch(op):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(3).standard_normal((4, 5, 6, 8)).astype(np.float32)
    a, b = tn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    if op == "maxout":
        ya, yb = tn.maxout(a, 2), b.reshape(4, 5, 6, 4, 2).amax(dim=-1)
    else:
        ya, yb = getattr(tn, op)(a), getattr(torch.nn.functional, op)(b, *[0.1] * (op == "leaky_relu"))
    gy = np.random.default_rng(4).standard_normal(ya.shape).astype(np.float32)
    ya.backward(gy)
    yb.backward(torch.tensor(gy))
    np.testing.assert_allclose(ya.data, yb.detach().numpy(), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=2e-6, atol=1e-6)
