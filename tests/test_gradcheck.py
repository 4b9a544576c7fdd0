"""The checkers: right gradients pass, and each classical mistake is caught."""

import importlib

import numpy as np
import pytest

import tinynet
from tinynet import Function
from tinynet.gradcheck import (
    GradientError,
    central_differences,
    check_reference,
    complex_step,
    gradcheck,
    gradgradcheck,
)
from tinynet.tensor import Tensor


def randn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def op(forward, backward):
    """A differentiable operation from two lambdas: forward(*arrays), backward(gy, *arrays)."""

    class Op(Function):
        def forward(self, *arrays):
            self.save(*arrays)
            return forward(*arrays)

        def backward(self, gy):
            return backward(gy, *self.saved)

    return Op.apply


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(gy, x):
    y = softmax(x)
    return y * (gy - (gy * y).sum(axis=-1, keepdims=True))


def smooth3(x):
    """y[i] = x[i-1] + 2 x[i] + x[i+1] with zeros outside: its own transpose."""
    p = np.pad(x, 1)
    return p[:-2] + 2 * p[1:-1] + p[2:]


def without_last(gx):
    """One border is lost: the last row never gets its contribution."""
    gx = gx.copy()
    gx[-1] = 0
    return gx


def first_sample_only(g):
    out = np.zeros_like(g)
    out[0] = g[0]
    return out


X = randn(3, 4)
B = randn(4, seed=1)
SQUARE = randn(3, 3, seed=2)

RIGHT = {
    "square": (lambda x: x * x, lambda g, x: 2 * x * g, [X]),
    "product": (lambda x, y: x * y, lambda g, x, y: (g * y, g * x), [X, X + 1]),
    "bias": (lambda x, b: x * b, lambda g, x, b: (g * b, (g * x).sum(0)), [X, B]),
    "transpose": (lambda x: x.T, lambda g, x: g.T, [SQUARE]),
    "softmax": (softmax, softmax_backward, [X]),
    "smooth": (smooth3, lambda g, x: smooth3(g), [B]),
    "twice": (lambda x: x[[0, 0, 1]], lambda g, x: np.stack([g[0] + g[1], g[2]]), [X[:2]]),
    "view": (lambda x: x, lambda g, x: g, [X]),
    "scalar": (lambda x: x**3, lambda g, x: 3 * x * x * g, [np.array(1.7)]),
    "sum": (lambda x: np.array(x.sum()), lambda g, x: np.full(x.shape, g), [X]),
    "empty": (lambda x: x * x, lambda g, x: 2 * x * g, [X[:0]]),
    "not contiguous": (lambda x: x * x, lambda g, x: 2 * x * g, [randn(4, 6).T[::2]]),
    "large values": (lambda x: np.log(x), lambda g, x: g / x, [1e4 + 1e3 * np.abs(X)]),
}

# name -> (forward, wrong backward, inputs)
WRONG = {
    "factor 2 missing": (lambda x: x * x, lambda g, x: x * g, [X]),
    "scale wrong by 0.1 %": (lambda x: x * x, lambda g, x: 2.002 * x * g, [X]),
    "sign": (lambda x: x * x, lambda g, x: -2 * x * g, [X]),
    "gy ignored": (lambda x: x * x, lambda g, x: 2 * x, [X]),
    "axes of gy swapped": (lambda x: x * 3, lambda g, x: g.T * 3, [SQUARE]),
    "order of gy reversed": (lambda x: x * 3, lambda g, x: g[::-1] * 3, [SQUARE]),
    "inputs swapped": (lambda x, y: x * y, lambda g, x, y: (g * x, g * y), [X, X + 1]),
    "only the first sample": (lambda x: x * x, lambda g, x: first_sample_only(2 * x * g), [X]),
    "bias sees the first sample": (lambda x, b: x * b, lambda g, x, b: (g * b, (g * x)[0]), [X, B]),
    "mean for sum": (lambda x, b: x * b, lambda g, x, b: (g * b, (g * x).mean(0)), [X, B]),
    "a border lost": (smooth3, lambda g, x: without_last(smooth3(g)), [B]),
    "softmax returns zeros": (softmax, lambda g, x: np.zeros_like(x), [X]),
    "softmax, diagonal only": (softmax, lambda g, x: softmax(x) * (1 - softmax(x)) * g, [X]),
    "= for +=": (lambda x: x[[0, 0, 1]], lambda g, x: np.stack([g[1], g[2]]), [X[:2]]),
    "NaN": (lambda x: x * x, lambda g, x: 2 * x * g * np.nan, [X]),
    "no gradient": (lambda x: x * x, lambda g, x: (None,), [X]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_pass(name):
    forward, backward, inputs = RIGHT[name]
    result = gradcheck(op(forward, backward), inputs)
    assert result
    assert [i.ok for i in result.inputs] == [x.size for x in inputs]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_fail(name):
    forward, backward, inputs = WRONG[name]
    with pytest.raises(GradientError, match="gradient check failed") as caught:
        gradcheck(op(forward, backward), inputs)
    assert any(i.wrong for i in caught.value.result.inputs)


def test_the_message_names_the_element():
    def backward(g, x):
        gx = 2 * x * g
        gx[1, 2] += 0.5
        return gx

    with pytest.raises(GradientError) as caught:
        gradcheck(op(lambda x: x * x, backward), [X])
    (found,) = caught.value.result.inputs
    assert (found.wrong, found.ok, found.inconclusive) == (1, X.size - 1, 0)
    assert found.worst == (1, 2)
    assert found.analytic[1, 2] - found.numeric[1, 2] == pytest.approx(0.5)
    assert "input 0, shape (3, 4): 1 of 12 elements wrong" in str(caught.value)
    assert "[1, 2]" in str(caught.value)


def test_raise_error_false_returns_the_result():
    result = gradcheck(op(lambda x: x * x, lambda g, x: x * g), [X], raise_error=False)
    assert not result
    assert result.inputs[0].wrong == X.size


def test_unbroadcast_forgotten():
    forgotten = op(lambda x, b: x * b, lambda g, x, b: (g * b, g * x))
    with pytest.raises(GradientError, match=r"gradient float64\[3, 4\] where input 1 is float64\[4\]") as caught:
        gradcheck(forgotten, [X, B])
    assert "a broadcast is not summed back: sum it over axis 0" in str(caught.value)


def test_gradient_of_another_dtype():
    with pytest.raises(GradientError, match="gradient float32"):
        gradcheck(op(lambda x: x * x, lambda g, x: (2 * x * g).astype(np.float32)), [X])


RELU = op(lambda x: np.maximum(x, 0), lambda g, x: g * (x > 0))


@pytest.mark.parametrize("distance", [0.0, 1e-9, 3e-5, 4.06e-5, 6.1e-5, 1e-4])
@pytest.mark.parametrize("side", [-1, 1])
def test_next_to_a_kink_is_inconclusive(distance, side):
    x = np.array([-1.0, side * distance, 1.0])
    result = gradcheck(RELU, [x])
    assert result.inputs[0].wrong == 0
    assert result.inputs[0].inconclusive == 1


def test_a_tie_of_a_maximum_is_inconclusive():
    def backward(g, x):
        gx = np.zeros_like(x)
        gx[np.argmax(x)] = g
        return gx

    result = gradcheck(op(lambda x: np.array(x.max()), backward), [np.array([2.0, 5.0, 5.0])])
    assert (result.inputs[0].ok, result.inputs[0].inconclusive) == (1, 2)


def test_kinks_of_several_outputs_do_not_cancel():
    # With gy = (1, -1) the two kinks leave no trace in sum(gy * y), but their backward need not cancel.
    f = central_differences(lambda x: np.maximum(np.stack([x, x]), 0), np.array(0.0), gy=np.array([1.0, -1.0]))
    assert f.value == 0
    assert f.error_bar > 1


def test_only_kinks_is_an_error():
    with pytest.raises(GradientError, match="every element is inconclusive"):
        gradcheck(RELU, [np.zeros(3)])


def test_inconclusive_hides_no_large_mistake():
    with pytest.raises(GradientError):
        gradcheck(op(lambda x: np.maximum(x, 0), lambda g, x: 10 * g), [np.array([0.0, -1.0])])


def test_float32_is_refused():
    with pytest.raises(TypeError, match=r"input 1 is float32; float64 is needed"):
        gradcheck(op(lambda x, y: x * y, lambda g, x, y: (g * y, g * x)), [X, X.astype(np.float32)])
    with pytest.raises(TypeError, match="fn returned float32"):
        gradcheck(op(lambda x: x.astype(np.float32), lambda g, x: g), [X])


def test_bad_arguments():
    with pytest.raises(TypeError, match="inputs is a ndarray"):
        gradcheck(RELU, X)
    with pytest.raises(TypeError, match="none of the inputs is float64"):
        gradcheck(RELU, [np.arange(3)])
    with pytest.raises(TypeError, match="fn returned a ndarray"):
        gradcheck(lambda x: x.data, [X])
    with pytest.raises(ValueError, match="not finite"):
        gradcheck(op(lambda x: x * np.nan, lambda g, x: g), [X])


def test_integer_inputs_are_passed_on():
    take = op(lambda x, i: x[i], lambda g, x, i: (np.bincount(i, g, len(x)).astype(x.dtype), None))
    result = gradcheck(take, [B, np.array([2, 0, 2])])
    assert [i.name for i in result.inputs] == ["input 0"]


def test_input_changed_in_place():
    def backward(g, x):
        gx = 2 * x * g
        x *= 2
        return gx

    with pytest.raises(GradientError, match="input 0 was changed in place"):
        gradcheck(op(lambda x: x * x, backward), [X.copy()])


def test_gy_changed_in_place():
    def backward(g, x):
        g *= 2 * x
        return g

    with pytest.raises(GradientError, match="changed the upstream gradient"):
        gradcheck(op(lambda x: x * x, backward), [X])


def test_gy_of_zeros():
    with pytest.raises(GradientError, match="a gy of zeros"):
        gradcheck(op(lambda x: x * x, lambda g, x: 2 * x * g + 1e-9), [X])


def test_a_function_with_a_memory():
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match="the same call gave another result"):
        gradcheck(op(lambda x: x * rng.normal(), lambda g, x: g), [X])


def test_randomness_is_frozen():
    frozen = []

    def forward(x):
        frozen.append(tinynet.random.is_frozen())
        return x * x

    gradcheck(op(forward, lambda g, x: 2 * x * g), [X])
    assert all(frozen)


def test_history_lost():
    with pytest.raises(GradientError):
        gradcheck(lambda x: Tensor(x.data * 2), [X])
    assert gradcheck(lambda x: Tensor(np.ones(3, x.dtype)), [X])


class Times(Function):
    def forward(self, x, y):
        self.save(x, y)
        return x * y

    def backward(self, gy):
        x, y = self.saved
        return Times.apply(gy, y), Times.apply(gy, x)


class TimesBuggy(Times):
    """Its first derivatives are right and its second ones are not: y is taken out of the graph."""

    def backward(self, gy):
        x, y = self.saved
        return Times.apply(gy, y.detach() if isinstance(y, Tensor) else y), Times.apply(gy, x)


def test_second_derivatives():
    results = gradgradcheck(Times.apply, [X, X + 1])
    assert len(results) == 2
    assert all(len(r.inputs) == 3 for r in results)  # x, y and gy
    gradcheck(TimesBuggy.apply, [X, X + 1])
    with pytest.raises(GradientError):
        gradgradcheck(TimesBuggy.apply, [X, X + 1])


def test_complex_step():
    x = np.array([0.3, 1.7])
    slope = complex_step(lambda x: np.exp(x) / x, [x], [np.array([1.0, 1.0])])
    np.testing.assert_allclose(slope, np.exp(x) / x - np.exp(x) / x**2, rtol=4e-16, atol=0)
    # A direction mixes the arguments: d/dt (x + t)(y + 2t) = y + 2x.
    assert complex_step(lambda x, y: x * y, [np.array(3.0), np.array(5.0)], [1, 2]) == 11.0
    with pytest.raises(TypeError, match="its derivative is lost"):
        complex_step(np.abs, [x], [1.0])


def test_check_reference():
    def forward(x, w):
        return np.sin(x) @ w

    def backward(gy, x, w):
        return np.cos(x) * (gy @ w.T), np.sin(x).T @ gy

    check_reference(forward, backward, [X, randn(4, 2)])
    with pytest.raises(GradientError, match="array 1"):
        check_reference(
            forward, lambda gy, x, w: (backward(gy, x, w)[0], 1.0000001 * np.sin(x).T @ gy), [X, randn(4, 2)]
        )


def test_central_differences_know_their_error():
    x = np.linspace(-2, 2, 41)
    found = central_differences(np.sinh, x, np.ones(41), h=1e-2)
    error = np.abs(found.value - np.cosh(x))
    assert (error <= found.error_bar + 1e-10).all()
    assert error.max() < 1e-8 < found.error_bar.max() < 1e-3


def test_the_package_offers_function_and_module():
    module = importlib.import_module("tinynet.gradcheck")  # this puts the module where the function was
    assert tinynet.gradcheck is module
    assert tinynet.gradcheck(op(lambda x: x * x, lambda g, x: 2 * x * g), [X])
    assert tinynet.gradgradcheck is gradgradcheck
