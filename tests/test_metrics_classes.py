"""ROC curves, their area and its intervals, confusion tables and kappa."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynet.imaging.metrics import (
    auc,
    auc_interval,
    bootstrap_interval,
    cohen_kappa,
    confusion_matrix,
    precision_recall_curve,
    ranking_ap,
    roc_curve,
    sensitivity_at,
)

# Two neurologists, one in Winnipeg (rows) and one in New Orleans (columns), judge the certainty of multiple sclerosis
# in two groups of patients, on four ordered classes. Westlund and Kurland, American Journal of Hygiene 57, 1953;
# Landis and Koch, Biometrics 33, 1977.
WINNIPEG = [[38, 5, 0, 1], [33, 11, 3, 0], [10, 14, 5, 6], [3, 7, 3, 10]]
NEW_ORLEANS = [[5, 3, 0, 0], [3, 11, 4, 0], [2, 13, 3, 4], [1, 2, 4, 14]]


def test_roc_by_hand():
    false_positives, true_positives, thresholds = roc_curve([0, 1, 1, 0, 1], [0.1, 0.4, 0.8, 0.4, 0.9])
    assert thresholds.tolist() == [np.inf, 0.9, 0.8, 0.4, 0.1]
    assert false_positives.tolist() == [0, 0, 0, 0.5, 1]
    assert np.allclose(true_positives, [0, 1 / 3, 2 / 3, 1, 1])


def test_precision_and_recall_by_hand():
    precision, recall, thresholds = precision_recall_curve([0, 1, 1, 0, 1], [0.1, 0.4, 0.8, 0.4, 0.9])
    assert thresholds.tolist() == [0.9, 0.8, 0.4, 0.1]
    assert np.allclose(precision, [1, 1, 3 / 4, 3 / 5]) and np.allclose(recall, [1 / 3, 2 / 3, 1, 1])
    assert ranking_ap([0, 1, 1, 0, 1], [0.1, 0.4, 0.8, 0.4, 0.9]) == pytest.approx(2 / 3 + 3 / 4 / 3)
    assert ranking_ap([0, 0, 0, 1], [7, 7, 7, 7]) == 0.25, "guessing gives the share of positives"


def test_auc_by_hand():
    # six pairs: one is a tie, the others are in order
    assert auc([0, 1, 1, 0, 1], [0.1, 0.4, 0.8, 0.4, 0.9]) == pytest.approx(5.5 / 6)
    assert auc([0, 0, 1], [1, 2, 3]) == 1 and auc([1, 0, 0], [1, 2, 3]) == 0 and auc([0, 1, 1], [7, 7, 7]) == 0.5


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=40))
def test_auc_is_the_area_under_the_curve(rows):
    true, score = np.array([(1, 5), (0, 4), *rows]).T
    false_positives, true_positives, _ = roc_curve(true, score)
    assert auc(true, score) == pytest.approx(np.trapezoid(true_positives, false_positives), abs=1e-12)
    assert auc(true, -score) == pytest.approx(1 - auc(true, score), abs=1e-12)
    assert auc(true, np.exp(score)) == auc(true, score), "the order counts, not the scale"


def test_sensitivity_at_a_specificity():
    true, score = np.repeat([0, 1], [20, 4]), np.r_[np.arange(20), 18.5, 19.5, 30, 3]
    assert sensitivity_at(true, score, 0.95) == (0.75, 18.5), "19 of 20 are 95 %"
    assert sensitivity_at(true, score, 1.0) == (0.5, 19.5)
    assert sensitivity_at(true, score, 0.0)[0] == 1


def simulated(count, rng):
    """Normal scores, one standard deviation apart: the AUC is Phi(1 / sqrt 2) = 0.7602."""
    true = np.arange(count) % 3 == 0
    return true, rng.standard_normal(count) + true


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        low, high = auc_interval(*simulated(90, rng))
        inside += low <= 0.7602 <= high
    assert 0.925 <= inside / 400 <= 0.975  # 95 %, give or take 2.3 standard errors


def test_bootstrap_agrees_with_delong():
    true, score = simulated(600, np.random.default_rng(1))
    assert bootstrap_interval(auc, true, score) == pytest.approx(auc_interval(true, score), abs=0.01)
    wide, narrow = (auc_interval(true, score, level) for level in (0.99, 0.5))
    assert wide[0] < narrow[0] < auc(true, score) < narrow[1] < wide[1]


def test_delong_by_its_formula():
    """The variance by the formula of the paper, over all pairs."""
    true, score = simulated(31, np.random.default_rng(2))
    score = score.round(1)  # with ties
    positive, negative = score[true], score[~true]
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = pairs.mean(axis=1).var(ddof=1) / len(positive) + pairs.mean(axis=0).var(ddof=1) / len(negative)
    low, high = auc_interval(true, score)
    assert (high - low) / 2 == pytest.approx(1.959963984540054 * np.sqrt(variance), rel=1e-12)


@pytest.mark.parametrize(
    ("true", "score", "message"),
    [
        ([0, 1], [0.1], "true (2,) and score (1,) must be two vectors of the same length"),
        ([0, 2], [0.1, 0.2], "true holds [0, 2]; it must be 0 (no) or 1 (yes)"),
        ([1, 1], [0.1, 0.2], "true has 2 positives and 0 negatives; need both"),
        ([0, 1], [0.1, np.nan], "score holds 1 NaN"),
    ],
)
def test_what_makes_no_curve_is_named(true, score, message):
    for function in (roc_curve, auc, auc_interval, precision_recall_curve, ranking_ap):
        with pytest.raises(ValueError) as caught:
            function(true, score)
        assert str(caught.value) == f"{function.__name__}: {message}"


def test_confusion_matrix():
    assert confusion_matrix([0, 0, 1, 2, 2], [0, 1, 1, 2, 0], 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match=r"pred holds 0 \.\. 3; must lie in 0 \.\. 2"):
        confusion_matrix([0, 1], [0, 3], 3)
    with pytest.raises(TypeError, match="true has dtype float64"):
        confusion_matrix([0.5, 1], [0, 1], 3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint64])
def test_small_integers_do_not_overflow(dtype):
    true, pred = np.arange(120, dtype=dtype), np.arange(120, dtype=dtype)[::-1]
    np.testing.assert_array_equal(confusion_matrix(true, pred, 120), np.eye(120, dtype=int)[::-1])
    assert cohen_kappa(np.array([[100, 90], [90, 100]], dtype=np.uint8), "quadratic") == pytest.approx(10 / 190)


def test_bootstrap_draws_positives_and_negatives():
    """Only negatives (positives) differ among themselves: a figure of them has a width only if they are drawn."""
    true = np.repeat([1, 0], 30)
    for drawn in (0, 1):
        score = np.where(true == drawn, np.arange(60), 5.0)
        low, high = bootstrap_interval(lambda t, s, drawn=drawn: s[t == drawn].mean(), true, score, samples=50)
        assert low < score[true == drawn].mean() < high


def test_bootstrap_draws_whole_groups():
    """Four equal images of each patient tell as much as one: the interval is that of the patients."""
    true, score = simulated(100, np.random.default_rng(1))
    one = bootstrap_interval(auc, true, score)
    four = [np.repeat(values, 4) for values in (true, score, np.arange(len(true)))]
    assert bootstrap_interval(auc, *four[:2], groups=four[2]) == pytest.approx(one, abs=1e-9)
    low, high = bootstrap_interval(auc, *four[:2])
    assert high - low < 0.6 * (one[1] - one[0]), "half as wide if the images were independent"
    with pytest.raises(ValueError, match=r"groups has shape \(3,\); one for each of true"):
        bootstrap_interval(auc, true, score, groups=[1, 2, 3])


@pytest.mark.parametrize(
    ("table", "expected"),
    [(WINNIPEG, (0.2079, 0.3797, 0.5246)), (NEW_ORLEANS, (0.2965, 0.4773, 0.6256))],
    ids=["Winnipeg", "New Orleans"],
)
def test_kappa_of_the_multiple_sclerosis_patients(table, expected):
    assert [round(cohen_kappa(table, weights), 4) for weights in (None, "linear", "quadratic")] == list(expected)


def test_kappa_at_its_ends():
    assert cohen_kappa(np.diag([3, 4, 5])) == 1
    assert cohen_kappa(np.outer([1, 2, 3], [2, 5, 1]), "quadratic") == pytest.approx(0)
    assert np.isnan(cohen_kappa([[7, 0], [0, 0]]))
    for table, weights, message in (
        ([[1, 2, 3]], None, r"table has shape \(1, 3\)"),
        ([[1, 2], [3, 4]], "cubic", "weights is 'cubic'"),
        ([[0, 0], [0, 0]], None, "table must hold counts"),
    ):
        with pytest.raises(ValueError, match=message):
            cohen_kappa(table, weights)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in the extra 'examples'")
    rng = np.random.default_rng(seed)
    true, score = rng.integers(0, 2, 300), rng.standard_normal(300).round(seed % 3)
    for ours, theirs in zip(roc_curve(true, score), sklearn.roc_curve(true, score, drop_intermediate=False)):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert abs(auc(true, score) - sklearn.roc_auc_score(true, score)) < 1e-12
    assert abs(ranking_ap(true, score) - sklearn.average_precision_score(true, score)) < 1e-12
    one, other = rng.integers(0, 5, (2, 200))
    other = np.where(rng.random(200) < 0.5, one, other)
    table = confusion_matrix(one, other, 5)
    assert (table == sklearn.confusion_matrix(one, other, labels=range(5))).all()
    for weights in (None, "linear", "quadratic"):
        expected = sklearn.cohen_kappa_score(one, other, labels=range(5), weights=weights)
        assert abs(cohen_kappa(table, weights) - expected) < 1e-12
