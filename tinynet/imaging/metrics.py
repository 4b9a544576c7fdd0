"""Scores of predictions: for label images, and further down for classes.

**Label images**: how well were the nuclei found, and how well were they told apart? A *label image* is an integer
array (H, W): 0 is background, every other number is one nucleus. All scores compare a true label image with a
predicted one of the same shape.

Two questions, two families of scores:

- *Dice* and *IoU* look at the foreground only: is this pixel nucleus or not? Two nuclei glued together cost
  nothing.
- *average precision* looks at whole nuclei: a predicted nucleus is a true positive (TP) when it overlaps a
  true one by more than a threshold, otherwise it is a false positive (FP); a true nucleus that nobody found
  is a false negative (FN). The score at that threshold is TP / (TP + FP + FN). Gluing two nuclei together
  costs two FN and one FP.

Source of the second: the 2018 Data Science Bowl (Caicedo et al., Nature Methods 16, 2019), which averages
over the thresholds 0.50, 0.55, ..., 0.95 and then over images.

**Classes**: `roc_curve`, `auc` and `sensitivity_at` judge a score for "yes" against the truth, without a threshold or
at every one; `confusion_matrix` and `cohen_kappa` judge answers that are one of several classes.
"""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..files import atomic_path
from .checks import check_labels, check_same_shape

# i/100 is the float nearest to the decimal number, and so is intersection/union: an IoU that equals a
# threshold in exact arithmetic equals it here too, and "strictly above" means what it says. np.arange
# with steps of .05 would drift.
THRESHOLDS = np.arange(50, 100, 5) / 100


def iou_matrix(true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Intersection over union of every true nucleus with every predicted one.

    true, pred: integer label images (H, W). Returns float64 (true nuclei, predicted nuclei) in ascending
    order of their labels, which need not be consecutive; values in [0, 1]. Raises TypeError or ValueError
    (`check_labels`).
    """
    true, pred = check_labels("iou_matrix", "true", true), check_labels("iou_matrix", "pred", pred)
    check_same_shape("iou_matrix", true, pred)
    true_ids, true_index = np.unique(true, return_inverse=True)
    pred_ids, pred_index = np.unique(pred, return_inverse=True)

    # The joint histogram: pairs[i, j] counts the pixels that are i in one image and j in the other.
    shape = len(true_ids), len(pred_ids)
    pair_index = np.ravel_multi_index((true_index.ravel(), pred_index.ravel()), shape)
    pairs = np.bincount(pair_index, minlength=shape[0] * shape[1]).reshape(shape)
    true_area, pred_area = pairs.sum(axis=1), pairs.sum(axis=0)

    # np.unique sorts, so background, where there is any, is the first row and the first column.
    rows, columns = slice(int(true_ids[0] == 0), None), slice(int(pred_ids[0] == 0), None)
    intersection = pairs[rows, columns]
    union = true_area[rows, None] + pred_area[None, columns] - intersection
    return intersection / union


def match_counts(
    true: np.ndarray, pred: np.ndarray, thresholds: Sequence[float] | np.ndarray = THRESHOLDS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of true positives, false positives and false negatives at each IoU threshold.

    true, pred: integer label images (H, W). thresholds: in [0.5, 1). Returns three int64 arrays
    (thresholds,). A pair matches when its IoU is strictly above the threshold. Two nuclei of one image do not
    overlap, so at most one of them can share more than half of a union with the same partner: at 0.5 and
    above no assignment problem is left. Raises ValueError for a threshold outside [0.5, 1).
    """
    thresholds = np.asarray(thresholds, dtype=np.float64).reshape(-1)
    if not np.all((thresholds >= 0.5) & (thresholds < 1)):
        raise ValueError(
            f"match_counts: thresholds {thresholds.tolist()} must lie in [0.5, 1), where matches are unique"
        )
    iou = iou_matrix(true, pred)
    best = iou.max(axis=1, initial=0)  # (true nuclei,)
    tp = np.count_nonzero(best[:, None] > thresholds, axis=0)
    return tp, iou.shape[1] - tp, iou.shape[0] - tp


def _precision(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """TP / (TP + FP + FN); nothing there and nothing found is a perfect answer: 1."""
    total = tp + fp + fn
    return np.where(total == 0, 1.0, tp / np.maximum(total, 1))


def average_precision(
    true: np.ndarray, pred: np.ndarray, thresholds: Sequence[float] | np.ndarray = THRESHOLDS
) -> np.ndarray:
    """Kaggle's precision TP / (TP + FP + FN) of one image at each IoU threshold.

    true, pred: integer label images (H, W). Returns float64 (thresholds,), in [0, 1]; 1 where both are empty.
    """
    return _precision(*match_counts(true, pred, thresholds))


def precision_at(true: np.ndarray, pred: np.ndarray, threshold: float) -> float:
    """`average_precision` of one image at one IoU threshold: `precision_at(true, pred, 0.5)` is AP50."""
    return float(average_precision(true, pred, [threshold])[0])


def mean_ap(true: np.ndarray, pred: np.ndarray) -> float:
    """Kaggle's score of one image: `average_precision` averaged over the thresholds 0.50, 0.55, ..., 0.95."""
    return float(average_precision(true, pred).mean())


def pooled_ap(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: Sequence[float] | np.ndarray = THRESHOLDS
) -> np.ndarray:
    """TP / (TP + FP + FN) with the counts of all images added first, as StarDist's evaluation does.

    Not Kaggle's score: here an image with 300 nuclei weighs a hundred times one with 3, there they weigh the
    same. Say which one a figure is. (StarDist: Schmidt et al., MICCAI 2018. Its `matching` counts an IoU
    equal to the threshold as a match; here it is strictly above, as in `average_precision`.)

    pairs: (true, pred) label images. Returns float64 (thresholds,).
    """
    totals = [np.zeros(np.size(thresholds), dtype=np.int64) for _ in range(3)]
    for true, pred in pairs:
        for total, count in zip(totals, match_counts(true, pred, thresholds), strict=True):
            total += count
    return _precision(*totals)


def _foregrounds(function: str, true_mask: np.ndarray, pred_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as bool, checked; a label image is taken as its foreground."""
    true_mask, pred_mask = np.asarray(true_mask), np.asarray(pred_mask)
    for name, mask in (("true_mask", true_mask), ("pred_mask", pred_mask)):
        if mask.dtype != bool and not np.issubdtype(mask.dtype, np.integer):
            raise TypeError(f"{function}: {name} has dtype {mask.dtype}, bool or integer is needed: threshold it first")
        if mask.size == 0:
            raise ValueError(f"{function}: {name} has shape {mask.shape}, which holds no pixels")
    if true_mask.shape != pred_mask.shape:
        raise ValueError(f"{function}: pred_mask has shape {pred_mask.shape}, true_mask has {true_mask.shape}")
    return true_mask != 0, pred_mask != 0


def dice(true_mask: np.ndarray, pred_mask: np.ndarray) -> float:
    """Dice coefficient 2 |A and B| / (|A| + |B|) of two foregrounds; 1 where both are empty.

    true_mask, pred_mask: bool, or integers whose non-zero pixels are foreground, of the same shape.
    Returns a number in [0, 1].
    """
    true_mask, pred_mask = _foregrounds("dice", true_mask, pred_mask)
    total = np.count_nonzero(true_mask) + np.count_nonzero(pred_mask)
    return 2 * np.count_nonzero(true_mask & pred_mask) / total if total else 1.0


def iou(true_mask: np.ndarray, pred_mask: np.ndarray) -> float:
    """Intersection over union (Jaccard index) of two foregrounds; 1 where both are empty.

    Arguments and range as in `dice`.
    """
    true_mask, pred_mask = _foregrounds("iou", true_mask, pred_mask)
    union = np.count_nonzero(true_mask | pred_mask)
    return np.count_nonzero(true_mask & pred_mask) / union if union else 1.0


SCORES = ("mean_ap", "ap50", "dice", "iou")


def evaluate_instances(samples: Sequence, predictions: Sequence[np.ndarray], method: str = "prediction") -> list[dict]:
    """Score one method's label images against the truth: one row an image.

    samples: objects with `.id`, `.kind` and `.labels` (H, W). predictions: label images in the same order.
    Returns dicts with id, kind, method, true_nuclei, pred_nuclei, mean_ap, ap50, dice, iou; rows of several
    methods may be joined with `+` and given to `score_table` together. Raises ValueError naming the sample
    that is at fault.
    """
    if len(samples) != len(predictions):
        raise ValueError(f"evaluate_instances: {len(predictions)} predictions for {len(samples)} samples")
    rows = []
    for sample, pred in zip(samples, predictions, strict=True):
        if sample.labels is None:
            raise ValueError(f"evaluate_instances: sample {sample.id} has no labels to compare with")
        try:
            tp, fp, fn = match_counts(sample.labels, pred)
        except (TypeError, ValueError) as error:
            raise type(error)(f"evaluate_instances: sample {sample.id}: {error}") from error
        precision = _precision(tp, fp, fn)
        rows.append(
            {
                "id": sample.id,
                "kind": sample.kind,
                "method": method,
                "true_nuclei": int(tp[0] + fn[0]),
                "pred_nuclei": int(tp[0] + fp[0]),
                "mean_ap": float(precision.mean()),
                "ap50": float(precision[0]),
                "dice": dice(sample.labels, pred),
                "iou": iou(sample.labels, pred),
            }
        )
    return rows


def score_table(rows: Sequence[Mapping]) -> list[dict]:
    """Average per-image rows into one row per kind of image and method, and one over all kinds.

    rows: from `evaluate_instances`, of one or more methods. Every score is the plain mean over images, so
    that a large image counts as much as a small one. Kinds and methods keep the order of their first
    appearance; `all` comes last. Returns dicts with kind, method, images, mean_ap, ap50, dice, iou. Raises
    ValueError when there are no rows.
    """
    if not rows:
        raise ValueError("score_table: rows is empty, at least one scored image is needed")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    table = []
    for kind in [*dict.fromkeys(row["kind"] for row in rows), "all"]:
        for method in methods:
            group = [row for row in rows if row["method"] == method and kind in (row["kind"], "all")]
            if group:
                means = {score: float(np.mean([row[score] for row in group])) for score in SCORES}
                table.append({"kind": kind, "method": method, "images": len(group), **means})
    return table


# ---------------------------------------------------------------------------------------- yes or no, by a score
def _positives_and_negatives(function: str, true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scores of the positive examples and those of the negative ones, float64; checked."""
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
    """The receiver operating characteristic: what every threshold on the score would give.

    true: bool, or 0 and 1, (N,); score: (N,), higher means "rather yes". Returns three float64 arrays, a point for
    each value that the score takes: the false positive rate (1 - specificity), the true positive rate (sensitivity),
    and the threshold: "yes" is score >= threshold. The first threshold is infinity: nobody is positive, both rates are
    0; at the last everybody is. Raises ValueError unless both classes are there. (Fawcett, An introduction to ROC
    analysis, 2006.)
    """
    positive, negative = _positives_and_negatives("roc_curve", true, score)
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    # How many scores are >= t: all but those that are < t, which is what "left" counts in the sorted ones.
    true_positives = positive.size - np.searchsorted(np.sort(positive), thresholds, side="left")
    false_positives = negative.size - np.searchsorted(np.sort(negative), thresholds, side="left")
    false_rate = np.concatenate([[0], false_positives / negative.size])
    true_rate = np.concatenate([[0], true_positives / positive.size])
    return false_rate, true_rate, np.concatenate([[np.inf], thresholds])


def _placements(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it; for each negative the share of positives above it.

    Equal scores count half. Both means are the area under the ROC curve.
    """

    def share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        others = np.sort(others)
        return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * others.size)

    return share_below(positive, negative), 1 - share_below(negative, positive)


def auc(true: np.ndarray, score: np.ndarray) -> float:
    """The area under the ROC curve: how often a random positive has a higher score than a random negative.

    0.5 is guessing, 1 a perfect order; equal scores count half. It is the Mann-Whitney statistic divided by the number
    of pairs (Hanley and McNeil, Radiology 143, 1982), and it judges the order only: the scores may be on any scale.
    Arguments and errors as in `roc_curve`.
    """
    return float(_placements(*_positives_and_negatives("auc", true, score))[0].mean())


def auc_interval(true: np.ndarray, score: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of `auc` by DeLong's method, within [0, 1].

    The AUC is a mean over pairs, and pairs that share an example are not independent. Its variance is that of the
    placements of the positives over their number, plus the same for the negatives. (DeLong, DeLong and Clarke-Pearson,
    Biometrics 44, 1988; as they say, a normal distribution is assumed: an AUC of exactly 1 gets an interval of no
    width.) Needs two positives and two negatives; other arguments and errors as in `roc_curve`.
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
    """The highest sensitivity whose specificity is at least so high, and the threshold that gives it.

    Arguments and errors as in `roc_curve`. A threshold to be used must be chosen on other data than it is judged on.
    """
    false_positive_rate, true_positive_rate, thresholds = roc_curve(true, score)
    # A hair of rounding must not cost a point of the curve.
    best = np.flatnonzero(1 - false_positive_rate >= specificity - 1e-12)[-1]
    return float(true_positive_rate[best]), float(thresholds[best])


def bootstrap_interval(
    figure: Callable[[np.ndarray, np.ndarray], float],
    true: np.ndarray,
    score: np.ndarray,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of any figure(true, score), by drawing the examples again, with replacement.

    Positives and negatives are drawn apart, so that every sample has as many of each as the data. The interval lies
    between the quantiles of the figure over `samples` such draws (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13). Other arguments and errors as in `roc_curve`.
    """
    positive, negative = _positives_and_negatives("bootstrap_interval", true, score)
    rng = np.random.default_rng(seed)
    again = np.repeat([1, 0], [positive.size, negative.size])
    figures = [
        figure(again, np.concatenate([rng.choice(positive, positive.size), rng.choice(negative, negative.size)]))
        for _ in range(samples)
    ]
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# ---------------------------------------------------------------------------------------- one of several classes
def confusion_matrix(true: np.ndarray, pred: np.ndarray, classes: int) -> np.ndarray:
    """How often class i (row) was taken for class j (column): int64 (classes, classes).

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
    return np.bincount(true * classes + pred, minlength=classes * classes).reshape(classes, classes)


def cohen_kappa(table: np.ndarray, weights: str | None = None) -> float:
    """Cohen's kappa: the agreement of two raters beyond what chance would give, 1 being perfect and 0 chance.

        kappa = 1 - sum(w * observed) / sum(w * expected)

    observed: `table` over its sum; expected: the product of its margins, what two independent raters would give; w:
    what a disagreement between class i and class j costs. weights None: 1 for every i != j; "linear": |i - j|;
    "quadratic": (i - j)^2, for classes in an order, so that a near miss costs less.

    table: counts (K, K), one rater's class as rows and the other's as columns (`confusion_matrix`). Returns NaN where
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


# ---------------------------------------------------------------------------------------- tables
def format_table(table: Sequence[Mapping]) -> str:
    """Rows with the same keys as aligned text columns: words to the left, numbers to the right."""
    columns = list(table[0])
    cells = [columns] + [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in table]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    is_word = [isinstance(table[0][column], str) for column in columns]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(line, widths, is_word, strict=True)
        ).rstrip()
        for line in cells
    )


def write_rows(path: str | os.PathLike, rows: Sequence[Mapping]) -> None:
    """Write rows with the same keys (a score table, per-image rows) as CSV, replacing an older file whole."""
    if not rows:
        raise ValueError(f"write_rows: rows is empty, there is nothing to write to {path}")
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
