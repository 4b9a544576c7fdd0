"""The exact parts of examples/unsupervised."""

from itertools import pairwise, product

import numpy as np
import pytest

import tinynet as tn
from tinynet.tools.bench.examples import load_example

rbm = load_example("unsupervised/rbm.py")
shallow = load_example("unsupervised/autoencoder.py")


V, H = 5, 3
STATES_V = np.array(list(product((0, 1), repeat=V)), dtype=np.float64)
STATES_H = np.array(list(product((0, 1), repeat=H)), dtype=np.float64)


@pytest.fixture
def machine():
    """A small machine in float64, with strong weights, and its joint distribution P(v, h) by enumeration."""
    rng = np.random.default_rng(3)
    machine = rbm.RBM(np.full(V, 0.5), H, rng)
    machine.W, machine.b, machine.c = rng.normal(0, 1, (V, H)), rng.normal(0, 1, V), rng.normal(0, 1, H)
    return machine


def joint(machine):
    """exp(-E(v, h)) of every pair of states, as the energy is written: (2^V, 2^H)."""
    return np.array([[np.exp(machine.b @ v + machine.c @ h + v @ machine.W @ h) for h in STATES_H] for v in STATES_V])


def exact_log_likelihood(machine, v):
    return rbm.log_likelihood(machine, v, rbm.exact_log_z(machine, block=3))


def test_free_energy_and_z_are_those_of_the_energy(machine):
    p = joint(machine)
    np.testing.assert_allclose(machine.free_energy(STATES_V), -np.log(p.sum(axis=1)), rtol=1e-12)
    assert rbm.exact_log_z(machine) == pytest.approx(np.log(p.sum()), rel=1e-12)
    assert rbm.exact_log_z(machine, block=3) == pytest.approx(np.log(p.sum()), rel=1e-12)
    mean = rbm.log_likelihood(machine, STATES_V, np.log(p.sum()))
    assert mean == pytest.approx(np.log(p.sum(axis=1) / p.sum()).mean(), rel=1e-12)


def test_conditional_probabilities(machine):
    p = joint(machine)
    np.testing.assert_allclose(machine.hidden(STATES_V), p @ STATES_H / p.sum(axis=1, keepdims=True), rtol=1e-10)
    np.testing.assert_allclose(machine.visible(STATES_H), p.T @ STATES_V / p.sum(axis=0)[:, None], rtol=1e-10)


def test_the_difference_of_means_is_the_gradient_of_the_exact_likelihood(machine):
    data = STATES_V[[3, 3, 17, 30]]
    p = joint(machine)
    p /= p.sum()
    model = STATES_V.T @ p @ STATES_H, p.sum(axis=1) @ STATES_V, p.sum(axis=0) @ STATES_H
    for array, of_data, of_model in zip((machine.W, machine.b, machine.c), rbm.statistics(machine, data), model):
        for place in np.ndindex(array.shape):
            before, ends = array[place], []
            for step in (1e-5, -1e-5):
                array[place] = before + step
                ends.append(exact_log_likelihood(machine, data))
            array[place] = before
            slope = (ends[0] - ends[1]) / 2e-5
            assert of_data[place] - of_model[place] == pytest.approx(slope, abs=1e-8)


def test_gibbs_sampling_settles_into_the_distribution(machine):
    machine.W *= 2  # hidden units that have to be drawn: with their probabilities in their place it is off by 0.1
    p = joint(machine).sum(axis=1)
    v = machine.gibbs(np.zeros((20000, V), dtype=np.float32), 50, np.random.default_rng(0))
    found = np.bincount((v @ 2 ** np.arange(V)[::-1]).astype(int), minlength=2**V) / len(v)
    assert np.abs(found - p / p.sum()).max() < 0.0106  # three standard deviations are at most 0.0106


def test_pseudo_likelihood_of_one_pixel_given_the_others(machine):
    p = joint(machine).sum(axis=1)
    exact = 0.0
    for number in range(len(STATES_V)):
        for i in range(V):
            flipped = number ^ (1 << (V - 1 - i))
            exact += np.log(p[number] / (p[number] + p[flipped])) / len(STATES_V)
    estimate = rbm.pseudo_log_likelihood(machine, STATES_V, np.random.default_rng(0), pixels=5000)
    assert estimate == pytest.approx(exact, abs=0.03)


def test_annealing_finds_z(machine):
    rng = np.random.default_rng(0)
    for base in (np.zeros(V, dtype=np.float32), machine.b.astype(np.float32)):
        found = rbm.annealed_log_z(machine, base, betas=300, rng=rng, chains=500)
        assert found == pytest.approx(rbm.exact_log_z(machine), abs=0.05)


@pytest.mark.parametrize("persistent", [False, True])
def test_learning_raises_the_exact_likelihood(persistent):
    """Two patterns of nine pixels: -log 2 is the best there is, pixels by themselves give -9 log 2."""
    pattern = np.array([1, 1, 1, 0, 0, 0, 1, 0, 1], dtype=np.float32)
    x = np.concatenate([np.tile(pattern, (50, 1)), np.tile(1 - pattern, (50, 1))])
    trained, curve = rbm.learn(x, 4, persistent, rbm.Plan(epochs=100, batch_size=10, lr=0.05), seed=0, watched=x)
    assert exact_log_likelihood(trained, x) > -2.5
    assert curve[-1, 0] > -1 > -5 > curve[0, 0]
    np.testing.assert_allclose(curve[:, 1], 0, atol=1e-5, err_msg="no gap: it watches what it learns from")


@pytest.mark.parametrize("persistent", [False, True])
def test_where_the_chains_begin(persistent, monkeypatch):
    """CD-1 begins at the data, PCD where the update before has left the chains."""
    calls, update = [], rbm.update
    monkeypatch.setattr(rbm, "update", lambda *a: calls.append((a, update(*a))) or calls[-1][1])
    x = np.random.default_rng(0).random((40, 9), dtype=np.float32)
    rbm.learn(x, 4, persistent, rbm.Plan(epochs=2, batch_size=10, lr=0.1), seed=0)
    for (_, after), ((_, v, chains, _, _), _) in pairwise(calls):
        assert chains is (after if persistent else v)
    rates = [arguments[3] for arguments, _ in calls]
    np.testing.assert_allclose(rates, 0.1 * (1 - np.arange(8) / 8))


def test_the_net_computes_what_the_machines_do():
    dbn = load_example("unsupervised/dbn.py")
    rng = np.random.default_rng(0)
    x = rng.random((6, 12), dtype=np.float32)
    stack = [rbm.RBM(rng.random(12), 7, rng), rbm.RBM(rng.random(7), 5, rng)]
    for machine in stack:
        machine.W *= 100
    net = dbn.feedforward(12, (7, 5), stack)
    expected = stack[1].hidden(stack[0].hidden(x))
    np.testing.assert_allclose(net[:4](tn.tensor(x)).numpy(), expected, rtol=1e-5)
    before = stack[0].W.copy()
    dbn.fine_tune(net, x, np.arange(6), 2, dbn.Config(), seed=0)
    np.testing.assert_array_equal(stack[0].W, before, err_msg="fine-tuning leaves the machines as they were")
    assert not np.array_equal(net[0].weight.numpy(), before)


def test_balanced_labels():
    dbn = load_example("unsupervised/dbn.py")
    labels = np.repeat(np.arange(10), [30, 5, 20, 20, 20, 20, 20, 20, 20, 20])
    chosen = dbn.balanced(labels, 50, np.random.default_rng(0))
    assert len(set(chosen)) == 50 and np.bincount(labels[chosen]).tolist() == [5] * 10


def test_pca_is_the_best_linear_code():
    x = np.random.default_rng(0).standard_normal((50, 8)) @ np.diag([5, 4, 3, 1, 1, 1, 0.1, 0.1])
    pca = shallow.PCA(x, 3)
    centered = x - x.mean(axis=0)
    singular = np.linalg.svd(centered, compute_uv=False)
    assert shallow.squared_errors(pca, x).sum() == pytest.approx((singular[3:] ** 2).sum(), rel=1e-5)
    np.testing.assert_allclose(pca.encode(x).mean(axis=0), 0, atol=1e-6)


def test_nearest_codes():
    rng = np.random.default_rng(0)
    codes, queries = rng.standard_normal((40, 3)), rng.standard_normal((5, 3))
    distances = np.linalg.norm(codes[None] - queries[:, None], axis=2)
    np.testing.assert_array_equal(shallow.nearest(codes, queries, 6), np.argsort(distances, axis=1)[:, :6])
    labels = np.arange(40) % 2
    assert shallow.precision(codes, labels, codes, labels, count=1) == 1


def test_unrolled_layers_are_the_layers():
    stacked = load_example("unsupervised/stacked_autoencoder.py")
    tn.seed(0)
    first, second = stacked.random_layers(9, (6, 4))
    assert not first.top and second.top
    x = np.random.default_rng(0).random((3, 9), dtype=np.float32)
    code = second.up(first.up(tn.tensor(x)))
    expected = first.decode(tn.sigmoid(second.decode(code))).numpy()
    np.testing.assert_allclose(stacked.Stack([first, second])(tn.tensor(x)).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(
        stacked.Stack([first]).encode(x), tn.sigmoid(first.encode(tn.tensor(x))).numpy(), rtol=1e-6
    )
