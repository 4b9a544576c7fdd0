"""Precision, recall and average precision of boxes, against values computed by hand."""

import numpy as np
import pytest

from tinynet import metrics

A, B, C = [0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]
NEAR_A = [0, 0, 10, 8]  # overlaps A by 0.8


def boxes(*rows):
    return np.array(rows, float).reshape(-1, 4)


CASES = {  # true boxes, found boxes, scores -> precision, recall, AP
    "all found": ((A, B), (A, B), (0.9, 0.8), [1, 1], [0.5, 1], 1.0),
    "half found": ((A, B), (A,), (0.9,), [1], [0.5], 0.5),
    "a false alarm in between": (
        (A, B),
        (A, C, B),
        (0.9, 0.8, 0.7),
        [1, 1 / 2, 2 / 3],
        [0.5, 0.5, 1],
        0.5 + 0.5 * 2 / 3,
    ),
    "found twice": ((A,), (NEAR_A, A), (0.9, 0.8), [1, 1 / 2], [1, 1], 1.0),
    "the twin comes first": ((A, B), (NEAR_A, A, B), (0.9, 0.8, 0.7), [1, 1 / 2, 2 / 3], [0.5, 0.5, 1], 5 / 6),
    "precision may rise again": ((A, B), (C, A, B), (0.9, 0.8, 0.7), [0, 1 / 2, 2 / 3], [0, 0.5, 1], 2 / 3),
    "ties keep their order": ((A,), (C, A), (0.5, 0.5), [0, 1 / 2], [0, 1], 0.5),
    "many ties": (
        (A,),
        20 * (C,) + (A,) + 20 * (C,),
        41 * (0.5,),
        [0] * 20 + [1 / n for n in range(21, 42)],
        [0] * 20 + [1] * 21,
        1 / 21,
    ),
    "nothing found": ((A,), (), (), [], [], 0.0),
    "nothing there": ((), (A,), (0.9,), [0], [0], float("nan")),
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    true, found, scores, precision, recall, ap = CASES[name]
    given = [boxes(*true)], [boxes(*found)], [np.array(scores)]
    actual = metrics.precision_recall(*given)
    np.testing.assert_allclose(actual[0], precision)
    np.testing.assert_allclose(actual[1], recall)
    assert metrics.detection_ap(*given) == pytest.approx(ap, nan_ok=True)


def test_images_are_pooled_and_a_box_counts_in_its_image_only():
    true = [boxes(A), boxes(B), boxes()]
    found, scores = [boxes(A, B), boxes(B), boxes(C)], [np.array([0.9, 0.6]), np.array([0.8]), np.array([0.7])]
    precision, recall = metrics.precision_recall(true, found, scores)
    np.testing.assert_allclose(precision, [1, 1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(recall, [0.5, 1, 1, 1])
    assert metrics.detection_ap(true, found, scores) == 1


def test_the_threshold_of_the_overlap():
    given = [boxes(A)], [boxes(NEAR_A)], [np.ones(1)]
    assert [metrics.detection_ap(*given, iou=iou) for iou in (0.5, 0.8, 0.81)] == [1, 1, 0]


def test_recall_counts_the_true_boxes_that_something_overlaps():
    true, found = [boxes(A, B), boxes(C), boxes()], [boxes(NEAR_A, A, A), boxes(), boxes(A)]
    assert metrics.box_recall(true, found) == pytest.approx(1 / 3)
    assert [metrics.box_recall([boxes(A)], [boxes(NEAR_A)], iou) for iou in (0.8, 0.81)] == [1, 0]
    assert np.isnan(metrics.box_recall([boxes()], [boxes(A)])) and np.isnan(metrics.box_recall([], []))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="box_recall: true has 1 images, found 0"):
        metrics.box_recall([boxes(A)], [])
    with pytest.raises(ValueError, match="true has 2 images, found 1, scores 1"):
        metrics.detection_ap([boxes(A), boxes()], [boxes(A)], [np.ones(1)])
    with pytest.raises(ValueError, match="the scores of image 0 contain NaN"):
        metrics.detection_ap([boxes(A)], [boxes(A)], [np.full(1, np.nan)])
    with pytest.raises(ValueError, match="image 0 has 1 boxes and 2 scores"):
        metrics.detection_ap([boxes(A)], [boxes(A)], [np.ones(2)])
