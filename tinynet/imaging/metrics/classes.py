"""Scores of classes: ROC and precision-recall curves for yes or no, confusion matrix and kappa for several classes."""

from collections.abc import Callable

import numpy as np


def _positives_and_negatives(function: str, true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scores of the positive and of the negative examples, float64, after checks."""
    true, score = np.asarray(true), np.asarray(score, dtype=np.float64)
    if true.ndim != 1 or true.shape != score.shape:
        raise ValueError(
            f"{function}: true {true.shape} and score {score.shape} must be two vectors of the same length"
        )
    if not np.isin(true, (0, 1)).all():
        raise ValueError(f"{function}: true holds {np.unique(true)[:5].tolist()}; it must be 0 (no) or 1 (yes)")
    if np.isnan(score).any():
        raise ValueError(f"{function}: score holds {np.isnan(score).sum()} NaN")
    positive, negative = score[true == 1], score[true == 0]
    if not positive.size or not negative.size:
        raise ValueError(f"{function}: true has {positive.size} positives and {negative.size} negatives; need both")
    return positive, negative


def roc_curve(true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The receiver operating characteristic (ROC): both rates at every threshold on the score.

    true: bool, or 0 and 1, (N,); score: (N,), higher means "rather yes". Returns three float64 arrays with one point
    for each value of the score: the false positive rate (1 - specificity), the true positive rate (sensitivity), and
    the threshold: "yes" means score >= threshold. The first threshold is infinity, where both rates are 0; at the last
    both are 1. Raises ValueError unless both classes occur. (Fawcett, An introduction to ROC analysis, 2006.)
    """
    false_positives, true_positives, thresholds = _yes_answers("roc_curve", true, score)
    false_rate = np.concatenate([[0], false_positives / false_positives[-1]])
    true_rate = np.concatenate([[0], true_positives / true_positives[-1]])
    return false_rate, true_rate, np.concatenate([[np.inf], thresholds])


def _yes_answers(function: str, true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false positives, true positives, thresholds): the counts of both with score >= threshold, which falls."""
    positive, negative = _positives_and_negatives(function, true, score)
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    # Scores >= t: all but the scores < t, which searchsorted with side="left" counts.
    true_positives = positive.size - np.searchsorted(np.sort(positive), thresholds, side="left")
    false_positives = negative.size - np.searchsorted(np.sort(negative), thresholds, side="left")
    return false_positives, true_positives, thresholds


def _placements(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the fraction of negatives below it; for each negative the fraction of positives above it.

    Equal scores count half. The mean of either array is the area under the ROC curve.
    """

    def fraction_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        others = np.sort(others)
        return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * others.size)

    return fraction_below(positive, negative), 1 - fraction_below(negative, positive)


def auc(true: np.ndarray, score: np.ndarray) -> float:
    """The area under the ROC curve: how often a random positive has a higher score than a random negative.

    0.5 is guessing, 1 a perfect order; equal scores count half. It is the Mann-Whitney statistic divided by the number
    of pairs (Hanley and McNeil, Radiology 143, 1982). Only the order of the scores counts, not their scale.
    Arguments and errors as in `roc_curve`.
    """
    return float(_placements(*_positives_and_negatives("auc", true, score))[0].mean())


def auc_interval(true: np.ndarray, score: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of `auc` by DeLong's method, within [0, 1].

    The AUC is a mean over pairs, and pairs that share an example are not independent. Its variance is the variance of
    the positives' placements divided by their number, plus the same for the negatives. The method assumes a normal
    distribution, so the interval of an AUC of exactly 1 has no width. (DeLong, DeLong and Clarke-Pearson, Biometrics
    44, 1988.) Needs two positives and two negatives; other arguments and errors as in `roc_curve`.
    """
    from scipy.special import ndtri  # the inverse of the normal distribution function

    positive, negative = _positives_and_negatives("auc_interval", true, score)
    if min(positive.size, negative.size) < 2:
        raise ValueError(
            f"auc_interval: {positive.size} positives, {negative.size} negatives; a variance needs two of each"
        )
    placements = _placements(positive, negative)
    half = ndtri((1 + level) / 2) * np.sqrt(sum(p.var(ddof=1) / p.size for p in placements))
    return float(max(0.0, placements[0].mean() - half)), float(min(1.0, placements[0].mean() + half))


def sensitivity_at(true: np.ndarray, score: np.ndarray, specificity: float) -> tuple[float, float]:
    """(sensitivity, threshold): the highest sensitivity with at least this specificity.

    Arguments and errors as in `roc_curve`. Choose a threshold on other data than you judge it on.
    """
    false_positive_rate, true_positive_rate, thresholds = roc_curve(true, score)
    # 1e-12: a rounding error must not exclude a point of the curve.
    best = np.flatnonzero(1 - false_positive_rate >= specificity - 1e-12)[-1]
    return float(true_positive_rate[best]), float(thresholds[best])


def precision_recall_curve(true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at every threshold on the score: three float64 arrays (precision, recall, threshold).

    "Yes" means score >= threshold; the thresholds are the values of the score, in falling order. Precision is the share
    of positives among the "yes" answers, recall the share of "yes" answers among the positives, which is the true
    positive rate. Unlike a ROC curve, this curve shows how rare positives are: guessing has a precision equal to their
    share. The Dice coefficient at a threshold is 2 precision recall / (precision + recall).

    Arguments and errors as in `roc_curve`. (Davis and Goadrich, The relationship between precision-recall and ROC
    curves, ICML 2006.)
    """
    return _precision_recall("precision_recall_curve", true, score)


def _precision_recall(function: str, true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    false_positives, true_positives, thresholds = _yes_answers(function, true, score)
    return true_positives / (true_positives + false_positives), true_positives / true_positives[-1], thresholds


def ranking_ap(true: np.ndarray, score: np.ndarray) -> float:
    """Average precision (AP) of a score: the area under its precision-recall curve, as a sum of steps in recall.

    1 is a perfect order; guessing gives the share of positives. Arguments and errors as in `roc_curve`. `detection_ap`
    is the average precision of boxes, `average_precision` the score of label images.
    """
    precision, recall, _ = _precision_recall("ranking_ap", true, score)
    return float((precision * np.diff(recall, prepend=0)).sum())


def bootstrap_interval(
    figure: Callable[[np.ndarray, np.ndarray], float],
    true: np.ndarray,
    score: np.ndarray,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
    """Confidence interval of any score `figure(true, score)`, by resampling the examples with replacement.

    Positives and negatives are drawn separately, so every resample has as many of each as the data. The interval lies
    between the quantiles over `samples` resamples (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13). groups: (N,), for example the patient of each image. Then whole groups are drawn, because images of one
    patient are alike: the interval without groups would be too narrow. A group with positives and negatives counts as
    two. Other arguments and errors as in `roc_curve`.
    """
    positive, negative = _positives_and_negatives("bootstrap_interval", true, score)
    true = np.asarray(true)
    groups = np.arange(len(true)) if groups is None else np.asarray(groups)
    if groups.shape != true.shape:
        raise ValueError(f"bootstrap_interval: groups has shape {groups.shape}; one for each of true {true.shape}")
    rng = np.random.default_rng(seed)
    draws = [_drawing(part, groups[true == label]) for part, label in ((positive, 1), (negative, 0))]
    figures = []
    for _ in range(samples):
        drawn = [draw(rng) for draw in draws]
        figures.append(figure(np.repeat([1, 0], [part.size for part in drawn]), np.concatenate(drawn)))
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _drawing(score: np.ndarray, groups: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """A function that draws as many groups as there are, with replacement, and returns all scores of them."""
    names, group = np.unique(groups, return_inverse=True)

    def draw(rng: np.random.Generator) -> np.ndarray:
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        return np.repeat(score, times[group])

    return draw


def confusion_matrix(true: np.ndarray, pred: np.ndarray, classes: int) -> np.ndarray:
    """How often class i (row) was predicted as class j (column): int64 (classes, classes).

    true, pred: integers in 0 .. classes - 1, (N,). Raises ValueError or TypeError for anything else.
    """
    true, pred = np.asarray(true), np.asarray(pred)
    if true.ndim != 1 or true.shape != pred.shape:
        raise ValueError(
            f"confusion_matrix: true {true.shape} and pred {pred.shape} must be vectors of the same length"
        )
    for name, values in (("true", true), ("pred", pred)):
        if not np.issubdtype(values.dtype, np.integer):
            raise TypeError(f"confusion_matrix: {name} has dtype {values.dtype}, integers are needed")
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"confusion_matrix: {name} holds {values.min()} .. {values.max()}; must lie in 0 .. {classes - 1}"
            )
    pairs = true.astype(np.int64) * classes + pred.astype(np.int64)  # 8 bits would overflow
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def cohen_kappa(table: np.ndarray, weights: str | None = None) -> float:
    """Cohen's kappa: the agreement of two raters beyond chance; 1 is perfect agreement, 0 is chance.

        kappa = 1 - sum(w * observed) / sum(w * expected)

    observed: `table` divided by its sum; expected: the product of its margins, as from two independent raters; w: the
    cost of a disagreement between class i and class j. weights None: 1 for every i != j; "linear": |i - j|;
    "quadratic": (i - j)^2. With ordered classes, the last two make a near miss cheaper.

    table: counts (K, K), the rows are one rater's classes, the columns the other's (`confusion_matrix`). Returns NaN if
    chance alone gives full agreement (one class only). Raises ValueError for another shape, negative or no counts.
    (Cohen, Educational and Psychological Measurement 20, 1960; weighted: Psychological Bulletin 70, 1968.)
    """
    table = np.asarray(table, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"cohen_kappa: table has shape {table.shape}; (K, K) is needed")
    if (table < 0).any() or table.sum() == 0:
        raise ValueError("cohen_kappa: table must hold counts, at least one of them above 0")
    apart = np.abs(np.subtract.outer(np.arange(len(table)), np.arange(len(table))))
    costs = {None: apart > 0, "linear": apart, "quadratic": apart**2}
    if weights not in costs:
        raise ValueError(f"cohen_kappa: weights is {weights!r}; None, 'linear' or 'quadratic' is needed")
    observed = table / table.sum()
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    by_chance = (costs[weights] * expected).sum()
    return float(1 - (costs[weights] * observed).sum() / by_chance) if by_chance else float("nan")
