"""gradcheck and its relatives: what they accept, what they refuse, and how exact they are."""

import importlib
import inspect

import numpy as np
import pytest
from functions import op, randn, without_last

import tinynet
from tinynet import Function
from tinynet.engine.tensor import Tensor
from tinynet.learn.gradcheck import (
    GradientError,
    central_differences,
    check_reference,
    complex_step,
    gradcheck,
    gradgradcheck,
)

X, B = randn(3, 4), randn(4, seed=1)
SQUARE = op(lambda x: x * x, lambda g, x: 2 * x * g)
RELU = op(lambda x: np.maximum(x, 0), lambda g, x: g * (x > 0))


# ---------------------------------------------------------------------------------------- right and wrong gradients
@pytest.mark.parametrize(
    ("forward", "backward", "inputs"),
    [
        pytest.param(lambda x: x, lambda g, x: g, [X], id="view"),
        pytest.param(lambda x: x**3, lambda g, x: 3 * x * x * g, [np.array(1.7)], id="scalar"),
        pytest.param(lambda x: np.array(x.sum()), lambda g, x: np.full(x.shape, g), [X], id="sum"),
        pytest.param(lambda x: x * x, lambda g, x: 2 * x * g, [X[:0]], id="empty"),
        pytest.param(lambda x: x * x, lambda g, x: 2 * x * g, [randn(4, 6).T[::2]], id="not contiguous"),
        pytest.param(lambda x: np.log(x), lambda g, x: g / x, [1e4 + 1e3 * np.abs(X)], id="large values"),
    ],
)
def test_right_gradients_pass(forward, backward, inputs):
    """The planted mistakes of test_gradcheck_mistakes.py have further right versions."""
    result = gradcheck(op(forward, backward), inputs)
    assert result
    assert [i.ok for i in result.inputs] == [x.size for x in inputs]


def test_the_message_names_the_element():
    def backward(g, x):
        gx = 2 * x * g
        gx[1, 2] += 0.5
        return gx

    with pytest.raises(GradientError, match="gradient check failed") as caught:
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


# ---------------------------------------------------------------------------------------- kinks
SHIFTED_RELU = op(lambda x: np.maximum(x - 2, 0), lambda g, x: g * (x > 2))


@pytest.mark.parametrize("distance", [0.0, 1e-9, 3e-5, 4.06e-5, 6.1e-5, 1e-4])
@pytest.mark.parametrize("side", [-1, 1])
def test_next_to_a_kink_is_inconclusive(distance, side):
    check = gradcheck(SHIFTED_RELU, [np.array([-1.0, 2 + side * distance, 1.0])]).inputs[0]
    assert (check.wrong, check.inconclusive) == (0, distance < 1e-6)
    # At 0 the step may be as small as x: only the kink itself is left.
    check = gradcheck(RELU, [np.array([-1.0, side * distance, 1.0])]).inputs[0]
    assert (check.wrong, check.inconclusive) == (0, distance == 0)


POLES = {
    "1 / x": (lambda x: 1 / x, lambda g, x: -g / x**2),
    "log": (np.log, lambda g, x: g / x),
    "sqrt": (np.sqrt, lambda g, x: g / (2 * np.sqrt(x))),
    "log |x|": (lambda x: np.log(np.abs(x)), lambda g, x: g / x),
    "1 / x^3": (lambda x: x**-3, lambda g, x: -3 * g * x**-4),
}


@pytest.mark.parametrize("name", POLES)
@pytest.mark.parametrize("x", [1e-12, 1e-6, 1.1e-4, 1e-3, 0.3])
def test_near_a_pole_there_is_no_false_alarm_and_a_mistake_is_found(name, x):
    forward, backward = POLES[name]
    with np.errstate(all="ignore"):
        check = gradcheck(op(forward, backward), [np.array([x, 1.0])]).inputs[0]
        assert (check.ok, check.wrong) == (2, 0)
        with pytest.raises(GradientError):
            gradcheck(op(forward, lambda g, x: 1.001 * backward(g, x)), [np.array([x])])


@pytest.mark.parametrize("distance", [1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 2e-4, 1e-2])
@pytest.mark.parametrize("mode", ["elements", "directions"])
def test_a_pole_anywhere_is_no_false_alarm(mode, distance):
    x = np.array([3 + distance, -2.0, 3 - 2 * distance])
    reciprocal = op(lambda x: 1 / (x - 3), lambda g, x: -g / (x - 3) ** 2)
    with np.errstate(all="ignore"):
        result = gradcheck(reciprocal, [x], mode=mode, raise_error=False)
    assert result.inputs[0].wrong == 0, str(result)


@pytest.mark.parametrize(
    ("fn", "x", "why"),
    [
        (lambda x: np.maximum(x - 2, 0), 2.0, "a kink is nearer than the step"),
        (lambda x: np.abs(x), 0.0, "a kink is nearer than the step"),
        (lambda x: 1 / (x - 2), 2.0001, "the numerical derivative is not exact enough there"),
        (lambda x: np.sin(1e5 * x), 1.0, "the numerical derivative is not exact enough there"),
        (lambda x: 1e12 + x, 1.0, "the numerical derivative is not exact enough there"),
    ],
)
def test_a_kink_is_named_only_where_there_is_one(fn, x, why):
    result = gradcheck(op(fn, lambda g, x: g), [np.array([x])], raise_error=False)
    if result.inputs[0].inconclusive:
        assert why in str(result)
    else:
        assert "kink" not in str(result)


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


def test_a_nan_only_in_the_neighborhood_is_inconclusive():
    """sqrt(x - 2) at 2 + 1e-9: the step reaches below 2, where there is no value."""
    with np.errstate(all="ignore"):
        result = gradcheck(
            op(lambda x: np.sqrt(x - 2), lambda g, x: g / (2 * np.sqrt(x - 2))), [np.array([2 + 1e-9, 3])]
        )
    assert (result.inputs[0].ok, result.inputs[0].inconclusive) == (1, 1)


# ---------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("fn", "inputs", "error", "sentence"),
    [
        (SQUARE, X, TypeError, "inputs is a ndarray; a tuple or list of arrays is needed"),
        (SQUARE, [X.astype("f4")], TypeError, "input 0 is float32; float64 is needed, e.g. x.astype('float64')"),
        (SQUARE, [X + 1j], TypeError, "input 0 is complex128; float64 is needed"),
        (SQUARE, [np.arange(3)], TypeError, "input 0 is int64. Integers have no derivative; pass x.astype('float64')"),
        (SQUARE, [], TypeError, "there are no inputs"),
        (SQUARE, [X * np.nan], ValueError, "input 0 is not finite: nan at [0, 0]"),
        (lambda x: x.data, [X], TypeError, "fn returned a ndarray; a Tensor of float64 is needed"),
        (lambda x: (x, x), [X], TypeError, "fn returned a tuple of 2; a Tensor of float64 is needed; choose one"),
        (lambda x: None, [X], TypeError, "fn returned None; a Tensor of float64 is needed; does it lack its `return`?"),
        (lambda x: 1.0, [X], TypeError, "fn returned a float"),
        (lambda x: Tensor(x.data > 0), [X], TypeError, "fn returned bool; a Tensor of float64 is needed"),
        (op(lambda x: x.astype(np.float32), lambda g, x: g), [X], TypeError, "fn returned float32"),
        (op(np.log, lambda g, x: g / x), [np.array([1.0, 0.0])], ValueError, "of fn is not finite: -inf at [1]"),
        (op(np.sqrt, lambda g, x: g), [np.array([[-1.0]])], ValueError, "nan at [0, 0]. Where fn is undefined it has"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_input_is_a_sentence(fn, inputs, error, sentence):
    with pytest.raises(error) as caught:
        gradcheck(fn, inputs)
    assert sentence in str(caught.value)


def test_bad_arguments():
    with pytest.raises(ValueError, match="mode is 'fast'; it must be 'elements' or 'directions'"):
        gradcheck(SQUARE, [X], mode="fast")


def test_an_output_of_any_shape_is_checked():
    """A `.sum()` is not needed: every output has its own element of gy."""
    assert gradcheck(SQUARE, [randn(2, 3, 4)]).gy.shape == (2, 3, 4)


def test_integer_inputs_are_passed_on():
    take = op(lambda x, i: x[i], lambda g, x, i: (np.bincount(i, g, len(x)).astype(x.dtype), None))
    result = gradcheck(take, [B, np.array([2, 0, 2])])
    assert [i.name for i in result.inputs] == ["input 0"]


# ---------------------------------------------------------------------------------------- other problems
RNG = np.random.default_rng(0)


def changes_x_in_forward(x):
    x += 1
    return x * x


def changes_x(g, x):
    gx = 2 * x * g
    x *= 2
    return gx


def changes_gy(g, x):
    g *= 2 * x
    return g


def flat_bytes(x):
    """The values in the order of the memory, which is wrong for an array that is not contiguous."""
    base = x if x.base is None else x.base
    return base.reshape(-1)[: x.size].reshape(x.shape)


@pytest.mark.parametrize(
    ("forward", "backward", "sentence"),
    [
        (lambda x: x * x, lambda g, x: (None,), "12 of 12 elements wrong"),
        (lambda x: x * x, lambda g, x: (2 * x * g).astype(np.float32), "gradient float32"),
        (changes_x_in_forward, lambda g, x: 2 * x * g, "input 0 was changed in place: work on a copy of it"),
        (lambda x: x * x, changes_x, "input 0 was changed in place"),
        (lambda x: x * x, changes_gy, "changed the upstream gradient"),
        (lambda x: x * x, lambda g, x: 2 * x * g + 1e-9, "a gy of zeros"),
        (lambda x: x * x, lambda g, x: 2 * x * g * (1 + 1e-12 * RNG.normal()), "gave another gradient the second time"),
        (lambda x: x * x, lambda g, x: 2 * x * np.clip(g, -1.4, 1.4), "the gradient is not linear in gy"),
        (lambda x: 3 * x, lambda g, x: 3 * flat_bytes(g), "arrays that are not contiguous in memory give another grad"),
        (lambda x: 3 * flat_bytes(x), lambda g, x: 3 * g, "inputs that are not contiguous in memory give another outp"),
        (lambda x: x * np.float64(3), lambda g, x: (3 * g).astype(x.dtype), "float32 inputs give an output of float64"),
        (
            lambda x: 3 * x,
            lambda g, x: np.float64(3) * g,
            r"float32 is not kept: Op.backward returned a gradient float64\[3, 4\]",
        ),
    ],
)
def test_what_else_is_wrong_is_said(forward, backward, sentence):
    given = X.copy()
    with pytest.raises(GradientError, match=sentence):
        gradcheck(op(forward, backward), [given])
    np.testing.assert_array_equal(given, X)  # the caller's own array is never changed


def test_a_function_with_a_memory():
    with pytest.raises(GradientError, match="the same call gave another result: fn is not a function") as caught:
        gradcheck(op(lambda x: x * RNG.normal(), lambda g, x: g), [X])
    assert caught.value.result.inputs == []  # the differences of such a function mean nothing


def test_float32_need_not_be_kept():
    assert gradcheck(lambda x: x.astype("float64") * 3, [X], keeps_dtype=False)
    own = Tensor(X)  # fn refuses to mix float32 with it, which is right
    assert gradcheck(lambda x: x * own, [X])


def test_randomness_is_frozen():
    frozen = []

    def forward(x):
        frozen.append(tinynet.engine.random.is_frozen())
        return x * x

    gradcheck(op(forward, lambda g, x: 2 * x * g), [X])
    assert all(frozen)


def test_history_lost():
    with pytest.raises(GradientError):
        gradcheck(lambda x: Tensor(x.data * 2), [X])
    assert gradcheck(lambda x: Tensor(np.ones(3, x.dtype)), [X])


# ---------------------------------------------------------------------------------------- the complex step
def test_the_complex_step_is_taken_if_it_works():
    result = gradcheck(op(np.sin, lambda g, x: g * np.cos(x)), [X])
    assert result.inputs[0].method == "complex step"
    assert result.accuracy < 1e-15
    # What differences cannot see: seven digits are right.
    with pytest.raises(GradientError, match="something inside is computed in float32"):
        gradcheck(op(np.sin, lambda g, x: (g * np.cos(x)).astype(np.float32).astype(g.dtype)), [X])


def as_real(x):
    return np.add(x, 1, out=np.empty(x.shape, x.dtype.char.replace("D", "d")), casting="unsafe")


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda x: x * np.abs(x), lambda g, x: 2 * np.abs(x) * g),  # the imaginary part is dropped in one factor
        (lambda x: x.real * x, lambda g, x: 2 * x * g),
        (as_real, lambda g, x: 1 * g),
    ],
)
def test_if_code_drops_the_imaginary_part_differences_are_taken(forward, backward):
    result = gradcheck(op(forward, backward), [X])
    assert result.inputs[0].method == "central differences"


def test_kinks_are_seen_with_the_complex_step_too():
    result = gradcheck(op(lambda x: np.where(x > 0, x, 0 * x), lambda g, x: g * (x > 0)), [np.array([0.0, 2.0, -1.0])])
    assert result.inputs[0].method == "complex step"
    assert (result.inputs[0].ok, result.inputs[0].inconclusive) == (2, 1)
    assert "1 of 3 INCONCLUSIVE, a kink is nearer than the step: first at [0]" in str(result)


def test_complex_step():
    x = np.array([0.3, 1.7])
    derivative = complex_step(lambda x: np.exp(x) / x, [x], [np.array([1.0, 1.0])])
    np.testing.assert_allclose(derivative, np.exp(x) / x - np.exp(x) / x**2, rtol=4e-16, atol=0)
    # A direction mixes the arguments: d/dt (x + t)(y + 2t) = y + 2x.
    assert complex_step(lambda x, y: x * y, [np.array(3.0), np.array(5.0)], [1, 2]) == 11.0
    with pytest.raises(TypeError, match="its derivative is lost"):
        complex_step(np.abs, [x], [1.0])


def test_check_reference():
    def forward(x, w):
        return np.sin(x) @ w

    def backward(gy, x, w):
        return np.cos(x) * (gy @ w.T), np.sin(x).T @ gy

    inputs = [X, randn(4, 2)]
    check_reference(forward, backward, inputs)
    with pytest.raises(GradientError, match="array 1"):
        check_reference(forward, lambda gy, x, w: (backward(gy, x, w)[0], 1.0000001 * np.sin(x).T @ gy), inputs)


def test_central_differences_know_their_error():
    x = np.linspace(-2, 2, 41)
    found = central_differences(np.sinh, x, np.ones(41), h=1e-2)
    error = np.abs(found.value - np.cosh(x))
    assert (error <= found.error_bar + 1e-10).all()
    assert error.max() < 1e-8 < found.error_bar.max() < 1e-3


# ---------------------------------------------------------------------------------------- large inputs
def test_directions():
    x = randn(30, 40, 5)
    calls = []

    def count(x):
        calls.append(1)
        return x**3

    result = gradcheck(op(count, lambda g, x: 3 * x * x * g), [x], mode="directions")
    assert result.inputs[0].analytic.shape == (8,)
    assert len(calls) < 60 < x.size
    with pytest.raises(GradientError) as caught:
        gradcheck(op(count, lambda g, x: without_last(3 * x * x * g)), [x], mode="directions")
    report = str(caught.value)
    assert "wrong slices: along axis 0 all at [29], the last index of axis 0; along axis 1 everywhere" in report
    assert "seed=0, mode='directions'" in report
    with pytest.raises(GradientError, match="exactly 1/3 times the right gradient"):
        gradcheck(op(count, lambda g, x: x * x * g), [x], mode="directions")


# ---------------------------------------------------------------------------------------- the report
def test_the_report_says_what_is_right_what_is_wrong_and_how_to_repeat_it():
    with pytest.raises(GradientError) as caught:
        product = op(lambda x, w: x * w, lambda g, x, w: (g * w, (g * x)[0]))
        gradcheck(lambda x, w: product(x, w), [X, B], seed=4, axes={"w": ("c",), "y": ("n", "c")})
    report = str(caught.value)
    assert "input 0 (x), shape (3, 4): 12 of 12 elements ok to" in report
    assert "input 1 (w), shape (4,): 4 of 4 elements wrong, everywhere" in report
    assert "the mistake: only the first sample of gy is used" in report
    assert "worst at c=" in report
    assert "analytic" in report and "numeric" in report
    assert "the smallest case that still fails: x (2, 1), w (1,)" in report
    assert "once more: gradcheck(fn, inputs, seed=4)" in report


def test_the_smallest_case_has_what_the_mistake_needs():
    """Rows and columns may go; two inputs whose axes belong together shrink together."""
    matmul = op(lambda x, w: x @ w, lambda g, x, w: (g @ w.T, x.T @ g * (1 if len(x) < 3 else 2)))
    result = gradcheck(lambda x, w: matmul(x, w), [randn(7, 5), randn(5, 6)], raise_error=False)
    assert "the smallest case that still fails: x (3, 1), w (1, 1)" in result.smallest
    assert gradcheck(SQUARE, [X]).smallest is None


def test_a_heat_map_is_written(tmp_path):
    result = gradcheck(op(lambda x: x * x, lambda g, x: x * g), [X], raise_error=False)
    result.heat_map(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no gradient is wrong"):
        gradcheck(SQUARE, [X]).heat_map(tmp_path / "none.png")


# ---------------------------------------------------------------------------------------- second derivatives
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


class CubeBuggy(Function):
    """With create_graph=True, backward is that of 2 x^3: consistent, so that its derivatives agree, and wrong."""

    def forward(self, x):
        self.save(x)
        return x**3

    def backward(self, gy):
        (x,) = self.saved
        return gy * x * x * (6.0 if isinstance(gy, Tensor) else 3.0)


def test_the_value_of_a_recorded_gradient_is_compared():
    gradcheck(CubeBuggy.apply, [X])
    with pytest.raises(GradientError, match="with create_graph=True, compared with the ordinary one") as caught:
        gradgradcheck(CubeBuggy.apply, [X])
    assert "it is exactly 2 times the right result" in str(caught.value)
    (result,) = gradgradcheck(CubeBuggy.apply, [X], raise_error=False)
    assert not result and repr(result) == str(result)


def test_the_package_offers_function_and_module():
    module = importlib.import_module("tinynet.gradcheck")  # the short name of the module, not in the function's place
    assert module is importlib.import_module("tinynet.learn.gradcheck")
    assert tinynet.gradcheck(SQUARE, [X])
    assert inspect.unwrap(tinynet.gradgradcheck) is gradgradcheck
