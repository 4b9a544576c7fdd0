"""Scores of a predicted label image against the true one."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..checks import check_labels, check_same_shape

# i / 100 is the float nearest to the decimal number, and so is intersection / union. So an IoU that equals a threshold
# in exact arithmetic equals it here too, which "strictly above" needs. np.arange with steps of 0.05 would drift.
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

    # np.unique sorts, so background is the first row and the first column, if there is any.
    rows, columns = slice(int(true_ids[0] == 0), None), slice(int(pred_ids[0] == 0), None)
    intersection = pairs[rows, columns]
    union = true_area[rows, None] + pred_area[None, columns] - intersection
    return intersection / union


def match_counts(
    true: np.ndarray, pred: np.ndarray, thresholds: Sequence[float] | np.ndarray = THRESHOLDS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of true positives, false positives and false negatives at each IoU threshold.

    true, pred: integer label images (H, W). thresholds: in [0.5, 1). Returns three int64 arrays (thresholds,).
    A pair matches if its IoU is strictly above the threshold. Two nuclei of one image do not overlap, so at most one of
    them can share more than half of a union with the same partner: matches at 0.5 and above are unique.
    Raises ValueError for a threshold outside [0.5, 1).
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


def instance_precision(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """TP / (TP + FP + FN); 1 if there is no nucleus and none is predicted."""
    total = tp + fp + fn
    return np.where(total == 0, 1.0, tp / np.maximum(total, 1))


def average_precision(
    true: np.ndarray, pred: np.ndarray, thresholds: Sequence[float] | np.ndarray = THRESHOLDS
) -> np.ndarray:
    """Kaggle's precision TP / (TP + FP + FN) of one image at each IoU threshold.

    true, pred: integer label images (H, W). Returns float64 (thresholds,), in [0, 1]; 1 if both are empty.
    """
    return instance_precision(*match_counts(true, pred, thresholds))


def precision_at(true: np.ndarray, pred: np.ndarray, threshold: float) -> float:
    """`average_precision` of one image at one IoU threshold: `precision_at(true, pred, 0.5)` is AP50."""
    return float(average_precision(true, pred, [threshold])[0])


def mean_ap(true: np.ndarray, pred: np.ndarray) -> float:
    """Kaggle's score of one image: `average_precision` averaged over the thresholds 0.50, 0.55, ..., 0.95."""
    return float(average_precision(true, pred).mean())


def pooled_ap(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: Sequence[float] | np.ndarray = THRESHOLDS
) -> np.ndarray:
    """TP / (TP + FP + FN), with the counts of all images added first, as in StarDist's evaluation.

    This is not Kaggle's score: here an image with 300 nuclei has a hundred times the weight of an image with 3; there
    both have the same weight. (StarDist: Schmidt et al., MICCAI 2018. Its `matching` counts an IoU equal to the
    threshold as a match; here the IoU must be strictly above, as in `average_precision`.)

    pairs: (true, pred) label images. Returns float64 (thresholds,).
    """
    totals = [np.zeros(np.size(thresholds), dtype=np.int64) for _ in range(3)]
    for true, pred in pairs:
        for total, count in zip(totals, match_counts(true, pred, thresholds), strict=True):
            total += count
    return instance_precision(*totals)


def _foregrounds(function: str, true_mask: np.ndarray, pred_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as bool, after checks. A label image counts as its foreground."""
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
    """Dice coefficient 2 |A and B| / (|A| + |B|) of two foregrounds; 1 if both are empty.

    true_mask, pred_mask: bool, or integers whose non-zero pixels are foreground, of the same shape.
    Returns a number in [0, 1].
    """
    true_mask, pred_mask = _foregrounds("dice", true_mask, pred_mask)
    total = np.count_nonzero(true_mask) + np.count_nonzero(pred_mask)
    return 2 * np.count_nonzero(true_mask & pred_mask) / total if total else 1.0


def class_dice(true: np.ndarray, pred: np.ndarray, classes: int) -> np.ndarray:
    """`dice` of each class but the background 0: float64 (classes - 1,).

    true, pred: integer arrays of one shape, the class of each pixel or voxel.
    """
    return np.array([dice(np.asarray(true) == label, np.asarray(pred) == label) for label in range(1, classes)])


def iou(true_mask: np.ndarray, pred_mask: np.ndarray) -> float:
    """Intersection over union (Jaccard index) of two foregrounds; 1 if both are empty.

    Arguments and range as in `dice`.
    """
    true_mask, pred_mask = _foregrounds("iou", true_mask, pred_mask)
    union = np.count_nonzero(true_mask | pred_mask)
    return np.count_nonzero(true_mask & pred_mask) / union if union else 1.0
