"""The exact parts of examples/evaluation/label_quality.py."""

import numpy as np
import pytest

import tinynet as tn
from tinynet.learn.gradcheck import gradcheck
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def script():
    return load_example("evaluation/label_quality.py")


def test_flipped_labels(script):
    labels = np.arange(20_000) % 10
    for kind, shifts in (("symmetric", set(range(10))), ("pairwise", {0, 1})):
        wrong = script.flipped(labels, 0.6, kind, np.random.default_rng(0))
        assert set(((wrong - labels) % 10).tolist()) == shifts and (wrong != labels).mean() == pytest.approx(
            0.6, abs=0.02
        )
    counts = np.bincount((script.flipped(labels, 1.0, "symmetric", np.random.default_rng(1)) - labels) % 10)
    assert counts[0] == 0 and counts[1:].min() > 0.9 * 20_000 / 9  # each wrong class is as probable
    assert (script.flipped(labels, 0.0, "pairwise", np.random.default_rng(0)) == labels).all()


def test_grades_are_moved_by_one_and_stay_grades(script):
    grades = np.arange(5000) % 5
    moved = script.one_grade_off(grades, 0.5, np.random.default_rng(0))
    assert set((moved - grades).tolist()) == {-1, 0, 1} and set(moved.tolist()) == {0, 1, 2, 3, 4}
    assert (moved != grades).mean() == pytest.approx(0.5, abs=0.03)


def test_generalized_cross_entropy_lies_between_cross_entropy_and_absolute_error(script):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    x = tn.tensor(logits)
    near_zero = script.generalized_cross_entropy(x, labels, q=1e-6).item()
    assert near_zero == pytest.approx(tn.softmax_cross_entropy(x, labels).item(), rel=1e-4)
    p = tn.softmax(x).numpy()[np.arange(6), labels]
    assert script.generalized_cross_entropy(x, labels, q=1.0).item() == pytest.approx(np.mean(1 - p))
    assert gradcheck(lambda t: script.generalized_cross_entropy(t, labels), [logits]).inputs[0].wrong == 0


def test_what_is_learned_from_two_observers(script):
    retinas = [tn.data.synthetic_retina(np.random.default_rng(i), 64) for i in range(2)]
    by = script.by_observer(retinas)
    assert [len(by[name]) for name in ("first", "second", "either", "mean")] == [2, 2, 4, 2]
    assert (by["either"][3].vessels == retinas[1].second).all() and (by["first"][1].vessels == retinas[1].vessels).all()
    differ = retinas[0].vessels != retinas[0].second
    assert differ.any() and set(by["mean"][0].vessels[differ]) == {0.5}
    assert set(by["mean"][0].vessels[~differ]) == {0.0, 1.0}
