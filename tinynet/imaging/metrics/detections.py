"""How well boxes were found: precision-recall curves and average precision (AP) as in the Pascal VOC challenge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..boxes import box_iou


def precision_recall(
    true: Sequence[np.ndarray], found: Sequence[np.ndarray], scores: Sequence[np.ndarray], iou: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """(precision, recall) after each of the found boxes of all images, the best score first: two arrays (M,).

    true: for each image the boxes (K, 4) of one class. found: for each image the boxes (M_i, 4) that were found, with
    `scores` (M_i,). A found box is right if its overlap with a true box is at least `iou`, and no box with a better
    score has found this true box already: a second one counts as a false alarm. Among equal scores the order stays.

    Raises ValueError if the numbers of images, or of boxes and scores, differ, or a score is NaN. Source: Everingham et
    al., IJCV 2010, section 4.2.
    """
    if not len(true) == len(found) == len(scores):
        raise ValueError(f"precision_recall: true has {len(true)} images, found {len(found)}, scores {len(scores)}")
    is_right, all_scores = [], []
    for number, (boxes, candidates, values) in enumerate(zip(true, found, scores)):
        if len(candidates) != len(values):
            raise ValueError(f"precision_recall: image {number} has {len(candidates)} boxes and {len(values)} scores")
        if np.isnan(values).any():
            raise ValueError(
                f"precision_recall: the scores of image {number} contain NaN, which has no place in an order"
            )
        order = np.argsort(-np.asarray(values), kind="stable")
        is_right.append(_right(box_iou(np.asarray(candidates)[order], boxes), iou))
        all_scores.append(np.asarray(values)[order])
    right = np.concatenate([*is_right, np.zeros(0, bool)])
    order = np.argsort(-np.concatenate([*all_scores, np.zeros(0)]), kind="stable")
    hits = np.cumsum(right[order])
    total = sum(len(boxes) for boxes in true)
    return hits / np.arange(1, len(hits) + 1), hits / max(total, 1)


def _right(overlaps: np.ndarray, iou: float) -> np.ndarray:
    """bool (M,) for overlaps (M, K): which boxes, the best first, find a true box that is still free.

    As in the challenge's program, a box stands for the true box it overlaps most; if that one is taken, it is wrong.
    """
    taken = np.zeros(overlaps.shape[1], bool)
    right = np.zeros(len(overlaps), bool)
    for number, row in enumerate(overlaps):
        if len(row) and row.max() >= iou and not taken[row.argmax()]:
            right[number] = taken[row.argmax()] = True
    return right


def detection_ap(
    true: Sequence[np.ndarray], found: Sequence[np.ndarray], scores: Sequence[np.ndarray], iou: float = 0.5
) -> float:
    """Average precision: the area under the precision-recall curve, from 0 to 1. Arguments as `precision_recall`.

    Precision at a recall is the highest one at this recall or beyond ("all-point interpolation", the rule since VOC
    2010). NaN if there is no true box: there is nothing to find.
    """
    if not any(len(boxes) for boxes in true):
        return float("nan")
    precision, recall = precision_recall(true, found, scores, iou)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return float((envelope * steps).sum())


def box_recall(true: Sequence[np.ndarray], found: Sequence[np.ndarray], iou: float = 0.5) -> float:
    """The share of all true boxes that a found box of their image overlaps by `iou` or more; NaN without true boxes.

    true, found: for each image an array of boxes (K, 4). This is the measure of proposals, whose number is fixed: false
    alarms are free. Source: Hosang et al., What makes for effective detection proposals?, TPAMI 38, 2016, section 4.
    """
    if len(true) != len(found):
        raise ValueError(f"box_recall: true has {len(true)} images, found {len(found)}")
    overlaps = [box_iou(boxes, candidates).max(axis=1, initial=0) for boxes, candidates in zip(true, found)]
    return float(np.mean(np.concatenate(overlaps) >= iou)) if any(len(boxes) for boxes in true) else float("nan")
