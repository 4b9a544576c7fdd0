"""The exact parts of examples/sequences."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.data import synthetic_ecg
from tinynet.tools.bench.examples import load_example

adding = load_example("sequences/rnn_vanishing_gradient.py")
ecg = load_example("sequences/lstm_ecg.py")


def test_the_adding_problem():
    x, lengths, target = adding.sequences(np.random.default_rng(0), 200, 30)
    assert x.shape == (200, 33, 2)
    assert set(lengths) == {30, 31, 32, 33}
    np.testing.assert_array_equal(x[:, :, 1].sum(1), 2)
    np.testing.assert_allclose((x[:, :, 0] * x[:, :, 1]).sum(1, keepdims=True), target, rtol=1e-6)
    marks = np.argwhere(x[:, :, 1] == 1)[:, 1].reshape(200, 2)
    assert np.all(marks[:, 0] < 15)
    assert np.all((marks[:, 1] >= 15) & (marks[:, 1] < lengths))  # nothing that counts lies in the padding


def test_the_gradient_by_distance_is_that_of_a_linear_net():
    """With small numbers tanh is linear: each step back multiplies by U^T, here a rotation times 0.9."""
    tn.seed(0)
    layer = nn.RNN(2, 8)
    layer.cells[0].recurrent_weight.data *= 0.9
    norms = adding.gradient_by_distance(layer, 1e-4 * np.ones((3, 12, 2), np.float32))
    eyes = layer.cells[0].input_weight.numpy().astype(float)
    direction, expected = np.random.default_rng(0).standard_normal((3, 8)), []
    for _ in range(12):
        expected.append(np.linalg.norm(direction @ eyes.T))
        direction = direction @ layer.cells[0].recurrent_weight.numpy().T.astype(float)
    np.testing.assert_allclose(norms, np.array(expected) / expected[0], rtol=1e-5)


@pytest.fixture(scope="module")
def heart():
    return ecg.prepare(synthetic_ecg(np.random.default_rng(0), seconds=300), np.random.default_rng(0))


def test_no_abnormal_beat_is_trained_on(heart):
    for role in ("train", "validate"):
        assert set(heart.symbols[heart.beat_role == role]) == {"N"}
        assert len(ecg.starts(heart, role)) > 0
    assert np.count_nonzero(heart.symbols[heart.beat_role == "evaluate"] != "N") == np.count_nonzero(
        heart.symbols != "N"
    )


def test_crops_stay_within_training_stretches(heart):
    allowed = np.concatenate([np.arange(s, s + ecg.STRETCH * ecg.RATE) for s in ecg.starts(heart, "train")])
    allowed = set(map(float, heart.x[allowed, 0]))
    crops = ecg.Crops(heart, 20)
    for i in range(20):
        x, target = crops.item(i, np.random.default_rng(i))
        assert x.shape == (ecg.CROP * ecg.RATE, 2)
        assert target.shape == (ecg.CROP * ecg.RATE, ecg.AHEAD)
        np.testing.assert_array_equal(target[:-1, 0], x[1:, 0])
        np.testing.assert_array_equal(target[:-1, 1], target[1:, 0])
        assert set(map(float, target[:, -1])) <= allowed


def test_surprise_is_minus_the_log_of_the_density():
    from scipy.stats import norm

    x = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    predicted = np.zeros((2, 200, ecg.AHEAD), np.float32)
    for ahead in range(1, ecg.AHEAD + 1):
        predicted[0, :-ahead, ahead - 1] = x[ahead:, 0]  # knows the future
    surest = norm.logpdf(0)
    np.testing.assert_allclose(ecg.surprise(x, predicted)[ecg.AHEAD :], -surest, rtol=1e-6)
    predicted[:, 100, 4] += 2, np.log(9)  # what was said at 100 of sample 105, with a deviation of 3
    change = ecg.surprise(x, predicted)[ecg.AHEAD :] + surest
    assert np.flatnonzero(abs(change) > 1e-6).tolist() == [105 - ecg.AHEAD]
    np.testing.assert_allclose(change[105 - ecg.AHEAD] * ecg.AHEAD, surest - norm.logpdf(2, scale=3), rtol=1e-5)


def test_pieces_give_what_the_whole_gives():
    """After 5 s the state is what it is when everything is heard from the start."""
    tn.seed(0)
    model = ecg.Listener(2, 4).eval()
    x = np.random.default_rng(0).standard_normal((31 * ecg.RATE, 2)).astype(np.float32)
    with tn.no_grad():
        whole = np.concatenate([part.numpy() for part in model(tn.tensor(x[None]))])
    np.testing.assert_allclose(ecg.predictions(model, x)[:, 5 * ecg.RATE :], whole[:, 5 * ecg.RATE :], atol=1e-4)
