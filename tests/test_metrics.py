"""Scores of label images, against loops over nuclei and against cases computed by hand."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinynet import metrics

label_images = arrays(np.int32, (6, 7), elements=st.integers(0, 4))


def brute_force_counts(true, pred, threshold):
    """TP, FP, FN by the definition: all pairs of nuclei as sets of pixels, in exact integer arithmetic."""

    def nuclei(labels):
        pixels = {}
        for place, label in np.ndenumerate(labels):
            if label:
                pixels.setdefault(int(label), set()).add(place)
        return list(pixels.values())

    true_nuclei, pred_nuclei = nuclei(true), nuclei(pred)
    percent = round(100 * threshold)
    tp = sum(100 * len(t & p) > percent * len(t | p) for t in true_nuclei for p in pred_nuclei)
    return tp, len(pred_nuclei) - tp, len(true_nuclei) - tp


@settings(deadline=None, max_examples=30)
@given(label_images, label_images, st.integers(0, 42))
def test_counts_equal_brute_force(true, noise, keep):
    # Change a part of the true image: two random images would hardly ever match.
    pred = np.where(np.arange(true.size).reshape(true.shape) < keep, true, noise)
    counts = np.transpose(metrics.match_counts(true, pred))
    for threshold, count in zip(metrics.THRESHOLDS, counts, strict=True):
        assert tuple(count) == brute_force_counts(true, pred, threshold)


def row_of(*areas):
    """One line of pixels: nuclei 1, 2, ... of these areas beside each other; a negative area is background."""
    parts = [np.full(abs(a), number if a > 0 else 0) for number, a in enumerate(areas, start=1)]
    return np.concatenate(parts)[None, :].astype(np.int32)


def test_match_is_strictly_above_the_threshold():
    # Intersection n, union 20: exactly .50, .55, ..., .95, each of which misses its own threshold.
    for n, threshold in zip(range(10, 20), metrics.THRESHOLDS, strict=True):
        true, pred = row_of(20, -1), row_of(n, -21 + n)
        assert metrics.iou_matrix(true, pred)[0, 0] == threshold
        assert metrics.precision_at(true, pred, threshold) == 0
        assert metrics.mean_ap(true, pred) == pytest.approx((n - 10) / 10)


def test_average_precision_by_hand():
    # Nucleus 1 is found with IoU 4/5, nucleus 2 is missed, one false alarm lies on background.
    true = np.array([[1, 1, 1, 1, 1, 0, 2, 2, 0, 0]])
    pred = np.array([[9, 9, 9, 9, 0, 0, 0, 0, 5, 5]])
    expected = [1 / 3] * 6 + [0] * 4  # .50 to .75 match; .80 is not strictly above .80
    np.testing.assert_allclose(metrics.average_precision(true, pred), expected)
    assert metrics.mean_ap(true, pred) == pytest.approx(0.2)
    np.testing.assert_array_equal(metrics.iou_matrix(true, pred), [[0, 0.8], [0, 0]])  # columns are labels 5, 9


def test_nothing_there_and_nothing_found_is_perfect():
    empty, full = np.zeros((4, 4), int), np.ones((4, 4), int)
    assert metrics.mean_ap(empty, empty) == metrics.dice(empty, empty) == metrics.iou(empty, empty) == 1
    assert metrics.mean_ap(empty, full) == metrics.mean_ap(full, empty) == 0
    assert metrics.dice(empty, full) == metrics.iou(full, empty) == 0
    assert metrics.mean_ap(full, full) == 1  # an image without a background pixel


@settings(deadline=None, max_examples=20)
@given(label_images, label_images)
def test_numbering_does_not_matter(true, pred):
    renamed = np.array([0, 70_000, 3, 12, 5])[pred]
    assert metrics.mean_ap(true, pred) == metrics.mean_ap(true, renamed)
    assert metrics.mean_ap(true, pred) == metrics.mean_ap(pred, true)


def test_gluing_two_nuclei_costs_objects_but_no_foreground():
    true, glued = row_of(4, 4), row_of(8)
    assert metrics.dice(true, glued) == metrics.iou(true, glued) == 1
    assert metrics.precision_at(true, glued, 0.5) == 0  # IoU is exactly one half with both
    tp, fp, fn = metrics.match_counts(true, glued, [0.5])
    assert (tp[0], fp[0], fn[0]) == (0, 1, 2)


def test_dice_and_iou_by_hand():
    true, pred = row_of(6, -4) > 0, row_of(-3, 5, -2)
    assert metrics.dice(true, pred) == pytest.approx(2 * 3 / 11)
    assert metrics.iou(true, pred) == pytest.approx(3 / 8)


def test_dice_of_each_class():
    true, pred = np.array([[[0, 1, 1], [2, 2, 2]]]), np.array([[[0, 1, 0], [2, 2, 1]]])
    np.testing.assert_allclose(metrics.class_dice(true, pred, 4), [1 / 2, 4 / 5, 1])


def test_pooled_is_not_the_mean_over_images():
    many = np.arange(1, 10)[None, :]  # nine nuclei of one pixel, all found
    one, nothing = row_of(1, -8), np.zeros((1, 9), int)
    pairs = [(many, many), (one, nothing)]
    np.testing.assert_allclose(metrics.pooled_ap(pairs), np.full(10, 9 / 10))
    assert np.mean([metrics.mean_ap(*pair) for pair in pairs]) == 0.5


# --- tables -------------------------------------------------------------------------------------------------


def scored_rows():
    good, bad = row_of(4, 4), row_of(8)
    samples = [
        SimpleNamespace(id="a", kind="fluorescence", labels=good),
        SimpleNamespace(id="b", kind="histology", labels=good),
        SimpleNamespace(id="c", kind="fluorescence", labels=good),
    ]
    net = metrics.evaluate_instances(samples, [good, good, bad], method="net")
    return net + metrics.evaluate_instances(samples, [bad, bad, bad], method="Otsu")


def test_rows_count_nuclei_and_score_each_image():
    row = scored_rows()[2]
    assert row == {
        "id": "c", "kind": "fluorescence", "method": "net", "true_nuclei": 2, "pred_nuclei": 1,
        "mean_ap": 0.0, "ap50": 0.0, "dice": 1.0, "iou": 1.0,
    }  # fmt: skip


def test_table_has_each_kind_and_method_and_all():
    table = metrics.score_table(scored_rows())
    summary = [(row["kind"], row["method"], row["images"], row["mean_ap"]) for row in table]
    assert summary == [
        ("fluorescence", "net", 2, 0.5),
        ("fluorescence", "Otsu", 2, 0.0),
        ("histology", "net", 1, 1.0),
        ("histology", "Otsu", 1, 0.0),
        ("all", "net", 3, pytest.approx(2 / 3)),
        ("all", "Otsu", 3, 0.0),
    ]


def test_table_as_text_and_as_csv(tmp_path):
    table = metrics.score_table(scored_rows())
    lines = metrics.format_table(table).splitlines()
    assert lines[0].split() == ["kind", "method", "images", "mean_ap", "ap50", "dice", "iou"]
    assert lines[5].split() == ["all", "net", "3", "0.667", "0.667", "1.000", "1.000"]
    assert len({len(line) for line in lines}) == 1  # the columns are aligned

    metrics.write_rows(tmp_path / "table.csv", table)
    with open(tmp_path / "table.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["method"] for row in read] == [row["method"] for row in table]
    assert [float(row["mean_ap"]) for row in read] == [row["mean_ap"] for row in table]


# --- wrong input --------------------------------------------------------------------------------------------

GOOD = np.zeros((4, 5), int)


def test_bad_thresholds_masks_and_lists_are_named():
    with pytest.raises(ValueError, match=r"thresholds \[0.3\] must lie in \[0.5, 1\)"):
        metrics.average_precision(GOOD, GOOD, [0.3])
    with pytest.raises(TypeError, match="pred_mask has dtype float64"):
        metrics.dice(GOOD, GOOD.astype(float))
    with pytest.raises(ValueError, match=r"iou: pred_mask has shape \(3, 5\), true_mask has \(4, 5\)"):
        metrics.iou(GOOD, GOOD[:3])
    with pytest.raises(ValueError, match="rows is empty"):
        metrics.score_table([])
    sample = SimpleNamespace(id="x7", kind="histology", labels=GOOD)
    with pytest.raises(ValueError, match="0 predictions for 1 samples"):
        metrics.evaluate_instances([sample], [])
    with pytest.raises(ValueError, match=r"sample x7: .*pred has shape"):
        metrics.evaluate_instances([sample], [GOOD.T])
    with pytest.raises(ValueError, match="sample x8 has no labels"):
        metrics.evaluate_instances([SimpleNamespace(id="x8", kind="histology", labels=None)], [GOOD])


def test_distances_of_surfaces_count_the_spacing():
    true, pred = np.zeros((2, 6, 7, 8), bool)
    true[1:3, 2:5, 2:6], pred[2:4, 2:5, 2:6] = True, True  # moved by one slice of 3 mm
    assert metrics.surface_distance(true, pred, (3, 0.5, 0.5), percentile=100) == 3
    assert metrics.surface_distance(true, true, (3, 0.5, 0.5)) == 0
    assert metrics.surface_distance(true, 0 * true, (1, 1, 1)) == np.inf
    assert metrics.surface_distance(0 * true, 0 * true, (1, 1, 1)) == 0
    with pytest.raises(ValueError, match=r"spacing is \(1, 1\); 3 positive numbers"):
        metrics.surface_distance(true, pred, (1, 1))
