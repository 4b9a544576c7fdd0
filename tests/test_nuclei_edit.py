"""Corrections of label images, as the page of `tinynet nuclei serve` sends them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.draw import disk, polygon2mask

from tinynet.nuclei.serve import edit
from tinynet.nuclei.serve.edit import EditError, put
from tinynet.nuclei.serve.outlines import all_outlines, outlines_of

LABELS = arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 4))
LABELS = st.builds(lambda labels, size: labels.repeat(size, 0).repeat(size, 1), LABELS, st.sampled_from([1, 4]))
POINTS = st.lists(st.tuples(st.floats(-5, 30), st.floats(-5, 30)), min_size=2, max_size=6)
POINTS = POINTS.map(lambda points: np.array(points, dtype=float))


def discs(*centers, radius=8, shape=(60, 80)):
    labels = np.zeros(shape, np.int32)
    for number, center in enumerate(centers, start=1):
        labels[disk(center, radius, shape=shape)] = number
    return labels


def edited(labels, patch):
    after = labels.copy()
    put(after, patch)
    return after


def line(*points):
    return np.array(points, dtype=float)


def test_delete():
    labels = discs((20, 20), (20, 50))
    after = edited(labels, edit.delete(labels, 1))
    np.testing.assert_array_equal(after, np.where(labels == 1, 0, labels))


def test_merge_of_nuclei_that_touch_adds_no_pixel():
    labels = discs((20, 20), (20, 35))
    after = edited(labels, edit.merge(labels, 2, 1))
    np.testing.assert_array_equal(after > 0, labels > 0)
    assert set(np.unique(after)) == {0, 2}


def test_merge_fills_a_narrow_gap_and_no_other_pixel():
    labels = discs((20, 20), (20, 39))
    after = edited(labels, edit.merge(labels, 1, 2))
    added = (after > 0) & (labels == 0)
    assert 0 < added.sum() < 40
    assert ndimage.label(after, np.ones((3, 3)))[1] == 1
    assert not added[:, :20].any() and not added[:, 40:].any()


@pytest.mark.parametrize(
    ("labels", "first", "second", "message"),
    [
        (discs((20, 20), (20, 60)), 1, 2, "pixels apart; at most 5"),
        (discs((20, 20), (20, 40)), 1, 1, "needs two nuclei"),
        (discs((20, 20)), 1, 7, "no nucleus 7"),
        (discs((20, 20)), 0, 1, "no nucleus 0"),
        (discs((20, 20)), -1, 1, "no nucleus -1"),
    ],
)
def test_merges_that_make_no_sense(labels, first, second, message):
    with pytest.raises(EditError, match=message):
        edit.merge(labels, first, second)


def test_merge_across_another_nucleus_is_refused():
    labels = discs((20, 20), (20, 39))
    labels[:, 29:31] = 3
    with pytest.raises(EditError, match="lies between"):
        edit.merge(labels, 1, 2)


@pytest.mark.parametrize("points", [((20.5, 2), (20.5, 45)), ((8, 8), (33, 33)), ((2, 20), (40, 26))])
def test_split_gives_the_pixels_to_two_sides_of_the_line(points):
    labels = discs((20, 20), (45, 60))
    after = edited(labels, edit.split(labels, line(*points)))
    np.testing.assert_array_equal(after > 0, labels > 0)
    assert set(np.unique(after)) == {0, 1, 2, 3}
    (x0, y0), (x1, y1) = points
    y, x = np.mgrid[:60, :80] + 0.5
    side = (x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)
    far = np.abs(side) / np.hypot(x1 - x0, y1 - y0) > 1.5
    for number in (1, 3):
        assert len(np.unique(np.sign(side[(after == number) & far]))) == 1
    assert min((after == 1).sum(), (after == 3).sum()) > 40


def test_split_leaves_a_neighbor_that_the_line_only_enters():
    labels = discs((20, 20), (20, 36))
    after = edited(labels, edit.split(labels, line((5, 20), (31, 20))))
    np.testing.assert_array_equal(after == 2, labels == 2)


def test_a_line_that_crosses_twice_makes_three_pieces():
    labels = np.zeros((30, 60), np.int32)
    labels[10:20, 5:55] = 1
    after = edited(labels, edit.split(labels, line((20, 5), (20, 25), (40, 25), (40, 5))))
    assert set(np.unique(after)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "points", [((0, 20), (20, 20)), ((50, 50), (70, 55)), ((-9, -9), (-5, -5)), ((13, 13), (13, 13))]
)
def test_a_line_that_cuts_nothing_is_refused(points):
    with pytest.raises(EditError, match="from one side"):
        edit.split(discs((20, 20)), line(*points))


def test_draw_takes_the_pixels_whose_middle_is_inside():
    labels = np.zeros((20, 30), np.int32)
    after = edited(labels, edit.draw(labels, line((3, 2), (9, 2), (9, 8), (3, 8))))
    expected = np.zeros_like(labels)
    expected[2:8, 3:9] = 1
    np.testing.assert_array_equal(after, expected)


def test_draw_leaves_other_nuclei_and_keeps_the_largest_piece():
    labels = np.zeros((20, 40), np.int32)
    labels[:, 20:23] = 5
    after = edited(labels, edit.draw(labels, line((5, 5), (30, 5), (30, 15), (5, 15))))
    np.testing.assert_array_equal(after == 5, labels == 5)
    rows, columns = np.nonzero(after == 6)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (5, 19, 5, 14)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (((1, 1), (3, 1), (3, 3)), "free pixels; a nucleus needs 9"),
        (((-9, -9), (-5, -9), (-5, -5)), "encloses no pixel"),
        (((15, 15), (25, 15), (25, 25), (15, 25)), "encloses 0 free pixels"),
    ],
)
def test_outlines_of_nothing_are_refused(points, message):
    with pytest.raises(EditError, match=message):
        edit.draw(discs((20, 20)), line(*points))


def any_edit(labels, kind, points, first, second):
    operations = {
        "delete": lambda: edit.delete(labels, first),
        "merge": lambda: edit.merge(labels, first, second),
        "split": lambda: edit.split(labels, points),
        "draw": lambda: edit.draw(labels, points),
    }
    return operations[kind]()


@settings(max_examples=60, deadline=None)
@given(LABELS, st.sampled_from(["delete", "merge", "split", "draw"]), POINTS, st.integers(0, 5), st.integers(0, 5))
def test_every_edit_is_undone_by_its_patch_and_keeps_the_others(labels, kind, points, first, second):
    before = labels.copy()
    try:
        patch = any_edit(labels, kind, points, first, second)
    except EditError:
        patch = None
    np.testing.assert_array_equal(labels, before)  # the functions change nothing
    if patch is None:
        return
    undo = put(labels, patch)
    changed = edit.changed_nuclei(undo.pixels, patch.pixels)
    assert changed
    untouched = ~np.isin(before, changed) & ~np.isin(labels, changed)
    np.testing.assert_array_equal(labels[untouched], before[untouched])
    if kind == "delete":
        assert changed == [first] and not (labels == first).any()
    elif kind == "merge":
        assert changed == sorted((first, second)) and not (labels == second).any()
        assert ((labels == first) >= ((before == first) | (before == second))).all()
    elif kind == "split":
        np.testing.assert_array_equal(labels > 0, before > 0)
        assert len(changed) >= 2 and min(changed) <= before.max() < changed[1]
    else:
        assert changed == [before.max() + 1] and (before[labels == changed[0]] == 0).all()
        assert ndimage.label(labels == changed[0], np.ones((3, 3)))[1] == 1
    put(labels, undo)
    np.testing.assert_array_equal(labels, before)


@settings(max_examples=25, deadline=None)
@given(LABELS)
def test_outlines_enclose_the_middles_of_their_pixels(labels):
    outlines = all_outlines(labels)
    assert sorted(outlines) == np.setdiff1d(labels, [0]).tolist()
    for number, rings in outlines.items():
        inside = np.zeros(labels.shape, dtype=bool)
        for ring in rings:  # a ring inside of another is a hole
            inside ^= polygon2mask(labels.shape, np.reshape(ring, (-1, 2))[:, ::-1] - 0.5)
        np.testing.assert_array_equal(inside, labels == number)


def test_outlines_of_a_part_are_those_of_the_whole():
    labels = discs((20, 20), (40, 60))
    patch = edit.delete(labels, 2)
    view = labels[patch.region]
    assert outlines_of(view, [2, 9], patch.top, patch.left) == {2: all_outlines(labels)[2], 9: None}
