"""The exact parts of examples/basics and examples/evaluation."""

import sys

import numpy as np
import pytest

import tinynet as tn
from tinynet.tools.bench.examples import load_example

kappa = load_example("evaluation/roc_and_kappa.py")


def test_the_closed_form_is_least_squares():
    script = load_example("basics/linear_regression.py")
    x, y = np.random.default_rng(0).standard_normal((2, 50))
    np.testing.assert_allclose(script.closed_form(x, y)[::-1], np.polyfit(x, y, 1), rtol=1e-10)
    theta = tn.tensor(np.array([0.3, -0.7]), requires_grad=True)
    script.half_squared_error(theta, x, y).backward()
    residual = 0.3 - 0.7 * x - y
    np.testing.assert_allclose(theta.grad, [residual.mean(), (residual * x).mean()], rtol=1e-12)


def test_the_rule_moves_only_after_mistakes():
    script = load_example("basics/perceptron.py")
    x, t = np.array([[2.0, 1.0]]), np.array([1])
    w, b, mistakes = script.learn(x, t, 3, np.random.default_rng(0))
    assert w.tolist() == [2, 1] and b == 1 and mistakes == [0, 0, 0], "one mistake: w is x once, b is 1"


def test_the_derivatives_of_activations():
    script = load_example("basics/activations.py")
    x = np.linspace(-3, 3, 61) + 0.01234  # off the kinks
    for name, (layer, _) in script.ACTIVATIONS.items():
        derivative = script.value_and_derivative(layer(), x)[1]
        ends = [script.value_and_derivative(layer(), x + h)[0] for h in (1e-6, -1e-6)]
        np.testing.assert_allclose(derivative, (ends[0] - ends[1]) / 2e-6, atol=1e-8, err_msg=name)


def test_scikit_learn_computes_the_same_if_it_is_installed(monkeypatch):
    pytest.importorskip("sklearn")
    degree = np.arange(20) % 5
    metrics = kappa.beside_scikit_learn(degree > 0, degree, degree, degree)
    assert list(metrics) == ["difference_to_scikit_learn"] and metrics["difference_to_scikit_learn"] < 1e-12
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    assert kappa.beside_scikit_learn(degree > 0, degree, degree, degree) == {}


def test_ordered_degrees_share_their_weights():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3)).astype(np.float32)
    degree = np.digitize(x @ [2.0, -1.0, 0.0] + 0.3 * rng.standard_normal(400), [-1, 0, 1])
    tn.seed(0)
    model = kappa.fit(x, degree, 3, kappa.Config(steps=300, weight_decay=0.0))
    w = model.score.weight.numpy()[:, 0]
    assert w[0] / w[1] == pytest.approx(-2, rel=0.1) and abs(w[2]) < 0.2 * w[0]
    assert (np.diff(model.thresholds.numpy()) > 0).all()


def test_codes_without_an_order_get_columns_of_their_own():
    features = np.array([[50, 1.0], [60, 4.0], [70, np.nan]])
    columns = kappa.one_hot(features, ("age", "cp"))
    np.testing.assert_array_equal(columns, [[50, 1, 0], [60, 0, 1], [70, np.nan, np.nan]])


def test_operating_points():
    true, score = np.repeat([0, 1], 20), np.r_[np.arange(20), np.arange(10, 30)]
    points = kappa.operating_points(true, score)
    assert points["specificity 95 %"] == (0.05, 0.55) and points["sensitivity 95 %"] == (0.45, 0.95)
    assert points["Youden's index"][1] - points["Youden's index"][0] == pytest.approx(0.5)
