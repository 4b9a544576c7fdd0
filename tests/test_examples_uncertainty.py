"""The exact parts of examples/uncertainty/mc_dropout.py."""

import numpy as np
import pytest
from test_nn_gradients import check_net

import tinynet as tn
from tinynet import nn
from tinynet.engine import random
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def script():
    return load_example("uncertainty/mc_dropout.py")


@pytest.mark.parametrize("name", ["vessels", "knees"])
def test_gradients_with_dropout(script, name):
    rng = np.random.default_rng(1)
    tn.seed(0)
    net, shape = (
        (script.SkipNet(0.3, (2, 2, 2)), (1, 4, 4, 3))
        if name == "vessels"
        else (script.knee_net((2, 1, 3)), (3, 2, 1, 3))
    )
    with random.frozen():
        check_net(net, rng.standard_normal(shape), rng)


def test_passes_differ_and_leave_the_net_as_it_was(script):
    tn.seed(0)
    net = script.knee_net((5, 5, 4)).eval()
    x = np.random.default_rng(0).standard_normal((3, 5, 5, 4)).astype(np.float32)
    before, once = net.state_dict(), nn.predict(net, x)
    maps = nn.predict(net[: script.FIRST], x)
    logits = script.passes(net, net[script.FIRST :], maps, 4)
    assert logits.shape == (4, 3, 5) and len({one.tobytes() for one in logits}) == 4
    np.testing.assert_array_equal(nn.predict(net[script.FIRST :], maps), once)
    after = net.state_dict()
    for key in before:
        if "random" not in key:  # dropout counts its masks
            np.testing.assert_array_equal(before[key], after[key])


def test_measures_of_uncertainty_by_hand(script):
    agree = np.array([[0.5, 0.5], [0.5, 0.5]])
    contradict = np.array([[1.0, 0.0], [0.0, 1.0]])
    measured = script.uncertainties(np.stack([agree, contradict], axis=1))
    np.testing.assert_allclose(measured["entropy"], [np.log(2)] * 2)  # both means are 0.5
    np.testing.assert_allclose(measured["mutual information"], [0, np.log(2)], atol=1e-12)
    np.testing.assert_allclose(measured["variance"], [0, 0.5])


def test_what_a_score_adds(script):
    rng = np.random.default_rng(0)
    plain, true = rng.random(20_000), rng.random(20_000) < 0.3
    assert script.auc_among_equals(true, true.astype(float), plain) == 1
    by_plain = rng.random(20_000) < plain  # the plain score knows all there is
    assert script.auc_among_equals(by_plain, plain**2 + 0.001 * rng.random(20_000), plain) == pytest.approx(
        0.5, abs=0.02
    )


def test_referral_of_the_least_sure(script):
    logits = np.zeros((1, 10, 5))
    grades = np.arange(10) % 5
    logits[0, np.arange(10), grades] = 5
    logits[0, :2] = logits[0, 5:7]  # the first two are ...
    logits[0, :2, 4] = 9  # ... graded 4, and are 0 and 1
    curve = script.referral(script.Answers(logits, grades), np.arange(10))
    assert curve["accuracy"][0] == pytest.approx(0.8) and curve["kappa"][0] < 0.7
    after = script.SHARES > 0.19
    assert (curve["accuracy"][after] == 1).all() and (curve["kappa"][after] == 1).all()


def test_the_temperature_is_found(script):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    grades = np.array([rng.choice(5, p=p) for p in tn.softmax(tn.tensor(logits)).numpy()])
    assert script.fit_temperature(script.Answers(3 * logits[None], grades)) == pytest.approx(3, rel=0.05)
