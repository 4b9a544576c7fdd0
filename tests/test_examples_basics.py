"""The scripts of examples/basics and examples/evaluation: that they learn, and what in them is exact."""

import sys

import numpy as np
import pytest
from example_runs import run_quickly
from rooms import missing

import tinynet as tn
from tinynet.data import data_path
from tinynet.tools.bench.examples import load_example

needs_tables = pytest.mark.usefixtures("scikit_learn")


@pytest.fixture
def scikit_learn():
    pytest.importorskip("sklearn", reason="the tables are in scikit-learn, extra 'examples'")


# ---------------------------------------------------------------------------------------- linear regression
@needs_tables
def test_linear_regression_both_ways(tmp_path):
    figures = run_quickly("basics/linear_regression.py", tmp_path)
    assert figures["difference"] < 1e-6 and figures["slope"] == pytest.approx(10.2331, abs=1e-4)
    assert figures["r2"] == pytest.approx(0.3439, abs=1e-4)


def test_the_closed_form_is_least_squares():
    script = load_example("basics/linear_regression.py")
    x, y = np.random.default_rng(0).standard_normal((2, 50))
    np.testing.assert_allclose(script.closed_form(x, y)[::-1], np.polyfit(x, y, 1), rtol=1e-10)
    theta = tn.tensor(np.array([0.3, -0.7]), requires_grad=True)
    script.half_squared_error(theta, x, y).backward()
    residual = 0.3 - 0.7 * x - y
    np.testing.assert_allclose(theta.grad, [residual.mean(), (residual * x).mean()], rtol=1e-12)


# ---------------------------------------------------------------------------------------- perceptron
@needs_tables
def test_perceptron(tmp_path):
    figures = run_quickly("basics/perceptron.py", tmp_path)
    assert figures["and_errors"] == figures["or_errors"] == 0 < figures["xor_errors"]
    assert figures["wdbc_accuracy"] > 0.9


def test_the_rule_moves_only_after_mistakes():
    script = load_example("basics/perceptron.py")
    x, t = np.array([[2.0, 1.0]]), np.array([1])
    w, b, mistakes = script.learn(x, t, 3, np.random.default_rng(0))
    assert w.tolist() == [2, 1] and b == 1 and mistakes == [0, 0, 0], "one mistake: w is x once, b is 1"


# ---------------------------------------------------------------------------------------- mlp
@needs_tables
def test_mlp(tmp_path):
    figures = run_quickly("basics/mlp.py", tmp_path)
    assert figures["xor_errors"] == 0 and figures["wdbc_accuracy"] > 0.94
    assert figures["moons_gap_large"] > figures["moons_gap_small"]


# ---------------------------------------------------------------------------------------- activations
@needs_tables
def test_activations(tmp_path):
    figures = run_quickly("basics/activations.py", tmp_path)
    assert figures["kept_sigmoid"] < 1e-8
    assert all(0.001 < figures[f"kept_{name}"] < 100 for name in ("tanh", "relu", "leaky_relu", "maxout", "elu"))


def test_slopes_are_those_of_the_functions():
    script = load_example("basics/activations.py")
    x = np.linspace(-3, 3, 61) + 0.01234  # off the kinks
    for name, (layer, _) in script.ACTIVATIONS.items():
        slope = script.value_and_slope(layer(), x)[1]
        ends = [script.value_and_slope(layer(), x + h)[0] for h in (1e-6, -1e-6)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, atol=1e-8, err_msg=name)


# ---------------------------------------------------------------------------------------- regression to classes
@needs_tables
def test_logistic_regression(tmp_path):
    figures = run_quickly("basics/logistic_regression.py", tmp_path)
    assert figures["auc"] > 0.98 and figures["accuracy"] > 0.94
    assert (tmp_path / "sigmoid.png").exists()


@needs_tables
def test_softmax_regression(tmp_path):
    figures = run_quickly("basics/softmax_regression.py", tmp_path)
    assert figures["digits_accuracy"] > 0.92
    if data_path("tables/dermatology.data") is not None:
        assert figures["dermatology_accuracy"] > 0.92


@needs_tables
def test_without_the_dermatology_table_digits_remain(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYNET_DATA", raising=False)
    figures = run_quickly("basics/softmax_regression.py", tmp_path)
    assert list(figures) == ["digits_accuracy"]
    assert "without the skin diseases: tables/dermatology.data was not found" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no such file"):
        run_quickly("basics/softmax_regression.py", tmp_path, "--data", str(tmp_path / "none"))


# ---------------------------------------------------------------------------------------- training and test
@needs_tables
def test_leaks_and_their_absence(tmp_path):
    figures = run_quickly("basics/train_and_test.py", tmp_path)
    assert figures["test_accuracy"] > 0.85
    for way, least in (("selection", 0.7), ("patients", 0.85), ("best_of_many", 0.6), ("training_set", 1.0)):
        assert figures[f"leak_{way}"] >= least
        assert 0.38 < figures[f"honest_{way}"] < 0.62, "the truth is a coin"


# ---------------------------------------------------------------------------------------- CPU and GPU
def test_cpu_vs_gpu(tmp_path):
    figures = run_quickly("basics/cpu_vs_gpu.py", tmp_path)
    assert figures["loss_difference"] < 1e-4 and figures["step_ms_cpu"] > 0 and figures["speedup_cpu"] > 0


@pytest.mark.slow
@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
def test_cpu_vs_gpu_where_there_is_a_gpu(tmp_path, fake_gpu):
    figures = run_quickly("basics/cpu_vs_gpu.py", tmp_path, "--size", "16")
    assert fake_gpu.launches and figures["step_ms_cuda"] > 0 and figures["loss_difference"] < 1e-4


# ---------------------------------------------------------------------------------------- ROC and kappa
def test_roc_and_kappa(tmp_path):
    figures = run_quickly("evaluation/roc_and_kappa.py", tmp_path)
    assert [figures[f"winnipeg{weights}"] for weights in ("", "_linear", "_quadratic")] == [0.2079, 0.3797, 0.5246]
    assert [figures[f"new_orleans{weights}"] for weights in ("", "_linear", "_quadratic")] == [0.2965, 0.4773, 0.6256]
    if data_path("tables/processed.cleveland.data") is not None:
        assert figures["auc"] > 0.87 and figures["kappa_quadratic"] > 0.6
        assert figures.get("difference_to_scikit_learn", 0) < 1e-12
        assert (tmp_path / "roc.png").exists()


@needs_tables
def test_without_scikit_learn_nothing_is_said_of_it(monkeypatch):
    script = load_example("evaluation/roc_and_kappa.py")
    degree = np.arange(20) % 5
    figures = script.beside_scikit_learn(degree > 0, degree, degree, degree)
    assert list(figures) == ["difference_to_scikit_learn"] and figures["difference_to_scikit_learn"] < 1e-12
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    assert script.beside_scikit_learn(degree > 0, degree, degree, degree) == {}


def test_ordered_degrees_share_their_weights():
    script = load_example("evaluation/roc_and_kappa.py")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3)).astype(np.float32)
    degree = np.digitize(x @ [2.0, -1.0, 0.0] + 0.3 * rng.standard_normal(400), [-1, 0, 1])
    tn.seed(0)
    config = script.Config(steps=300, weight_decay=0.0)
    model = script.fit(x, degree, 3, config)
    w = model.score.weight.numpy()[:, 0]
    assert w[0] / w[1] == pytest.approx(-2, rel=0.1) and abs(w[2]) < 0.2 * w[0]
    assert (np.diff(model.thresholds.numpy()) > 0).all()


def test_codes_without_an_order_get_columns_of_their_own():
    script = load_example("evaluation/roc_and_kappa.py")
    features = np.array([[50, 1.0], [60, 4.0], [70, np.nan]])
    np.testing.assert_array_equal(
        script.one_hot(features, ("age", "cp")), [[50, 1, 0], [60, 0, 1], [70, np.nan, np.nan]]
    )


def test_operating_points():
    script = load_example("evaluation/roc_and_kappa.py")
    true, score = np.repeat([0, 1], 20), np.r_[np.arange(20), np.arange(10, 30)]
    points = script.operating_points(true, score)
    assert points["specificity 95 %"] == (0.05, 0.55) and points["sensitivity 95 %"] == (0.45, 0.95)
    assert points["Youden's index"][1] - points["Youden's index"][0] == pytest.approx(0.5)
