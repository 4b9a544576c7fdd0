"""Boxes: overlap, suppression, encoding and RoI align against plain loops; empty sets and wrong arguments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet as tn
from tinynet import boxes
from tinynet.learn.gradcheck import gradcheck


def draw(rng, count, size=30.0):
    corner = rng.uniform(-5, size, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.5, size / 2, (count, 2))], axis=1)


def area_in_cells(a, b):
    """(intersection, union) of two boxes with whole coordinates, counted pixel by pixel."""
    cells = [set(itertools.product(range(y1, y2), range(x1, x2))) for y1, x1, y2, x2 in (a, b)]
    return len(cells[0] & cells[1]), len(cells[0] | cells[1])


def test_iou_counts_pixels():
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.integers(0, 7, (20, 2, 2)), axis=1).reshape(20, 4) for _ in range(2))  # some are empty
    for i, j in itertools.product(range(20), range(20)):
        overlap, union = area_in_cells(a[i], b[j])
        assert boxes.box_iou(a[i : i + 1], b[j : j + 1])[0, 0] == pytest.approx(overlap / union if union else 0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(0, 25), threshold=st.sampled_from([0.0, 0.3, 1.0]))
def test_nms_keeps_the_best_of_each_heap(seed, count, threshold):
    rng = np.random.default_rng(seed)
    a, scores = draw(rng, count), rng.integers(0, 5, count) / 5  # many equal scores
    kept = boxes.nms(a, scores, threshold)
    expected = []
    for i in sorted(range(count), key=lambda i: (-scores[i], i)):
        if all(boxes.box_iou(a[i : i + 1], a[k : k + 1])[0, 0] <= threshold for k in expected):
            expected.append(i)
    assert kept.tolist() == expected


def test_decoding_is_the_inverse_of_encoding():
    rng = np.random.default_rng(1)
    a, anchors = draw(rng, 40), draw(rng, 40)
    np.testing.assert_allclose(boxes.decode_boxes(boxes.encode_boxes(a, anchors), anchors), a, atol=1e-9)
    offsets = boxes.encode_boxes(np.array([[2.0, 1, 6, 9]]), np.array([[0.0, 0, 4, 4]]))
    np.testing.assert_allclose(offsets, [[0.5, 0.75, 0, np.log(2)]])  # half a height down, three quarters right
    assert np.isfinite(boxes.decode_boxes(np.full((1, 4), 1e4), anchors[:1])).all()


def aligned(x, box, size, scale, samples):
    """RoI align of one box, point by point."""
    y1, x1, y2, x2 = np.asarray(box) * scale - 0.5
    out = np.zeros((size, size, x.shape[-1]))
    for i, j, a, b in np.ndindex(size, size, samples, samples):
        point = np.array(
            [y1 + (y2 - y1) * (i + (a + 0.5) / samples) / size, x1 + (x2 - x1) * (j + (b + 0.5) / samples) / size]
        )
        if (point < -1).any() or (point > x.shape[:2]).any():
            continue
        point = np.clip(point, 0, np.subtract(x.shape[:2], 1))
        low = np.minimum(point.astype(int), np.subtract(x.shape[:2], 2))
        fy, fx = point - low
        cell = x[low[0] : low[0] + 2, low[1] : low[1] + 2]
        rows = (1 - fy) * cell[0] + fy * cell[1]
        out[i, j] += ((1 - fx) * rows[0] + fx * rows[1]) / samples**2
    return out


def test_roi_align_reads_each_cell_at_its_points():
    rng = np.random.default_rng(2)
    x, a = rng.standard_normal((3, 9, 11, 2)), draw(rng, 8)
    images = np.array([2, 0, 0, 2, 0, 2, 2, 0])  # not sorted, and none in image 1
    y = boxes.roi_align(tn.tensor(x), a, images, 3, scale=0.5)
    for k in range(8):
        np.testing.assert_allclose(y.numpy()[k], aligned(x[images[k]], a[k], 3, 0.5, 2), atol=1e-12)
    gradcheck(lambda x: boxes.roi_align(x, a, images, (2, 1), scale=0.5), (x[:, :4, :5],))


def test_empty_sets_are_sets():
    x = tn.tensor(np.ones((1, 4, 4, 2), np.float32))
    assert boxes.nms([], []).shape == (0,)
    assert boxes.box_iou([], np.ones((3, 4))).shape == (0, 3)
    assert boxes.encode_boxes([], []).shape == (0, 4)
    assert boxes.roi_align(x, [], np.zeros(0, int), 3).shape == (0, 3, 3, 2)
    assert boxes.clip_boxes([[-3, -3, -1, 9]], (5, 6)).tolist() == [[0, 0, 0, 6]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda a: boxes.nms(a, [1.0]), r"scores has shape \(1,\); \(2,\) is needed"),
        (lambda a: boxes.nms(a, [1.0, np.nan]), "scores contains NaN"),
        (lambda a: boxes.nms(np.where(a > 0, a, np.nan), [1.0, 0.5]), "boxes contains NaN"),
        (lambda a: boxes.nms(a, [1.0, 2.0], 50), "threshold is 50"),
        (lambda a: boxes.box_iou(a[:, :3], a), r"a has shape \(2, 3\); \(K, 4\) is needed"),
        (lambda a: boxes.encode_boxes(a[:, [2, 3, 0, 1]], a), r"boxes\[0\] is .*; y2 > y1"),
        (lambda a: boxes.roi_align(tn.tensor(np.ones((1, 4, 4, 1))), a, np.array([0, 1]), 2), "x has 1 images"),
        (
            lambda a: boxes.roi_align(tn.tensor(np.ones((1, 4, 4, 1))), a, np.array([0.0, 0]), 2),
            "2 integers are needed",
        ),
    ],
)
def test_wrong_arguments_are_named(function, message):
    with pytest.raises(ValueError, match=message):
        function(np.array([[0.0, 0, 4, 4], [1, 1, 3, 3]]))
