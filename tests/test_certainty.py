"""How certain each nucleus is, and which are dropped."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynet.data import synthetic_nuclei
from tinynet.imaging import certainty, segment
from tinynet.nuclei import fit_certainty


def piece(mask=0.95, border=0.02, depth=0.8, side=12):
    """(labels, maps) of one square nucleus whose maps have these values; its middle alone is so deep."""
    labels, maps = np.zeros((20, 20), np.int32), np.zeros((20, 20, 3), np.float32)
    labels[4 : 4 + side, 4 : 4 + side] = 1
    maps[labels > 0] = mask, border, 0
    maps[4 + side // 2, 4 + side // 2, 2] = depth
    return labels, maps


def test_the_evidence_is_mean_mask_mean_border_and_largest_distance():
    labels, maps = piece(mask=0.75, border=0.25, depth=0.5)
    labels[0, :4] = 3  # label 2 does not occur
    maps[0, :4] = [[1, 0, 0.1], [0.5, 0, 0.3], [0, 1, 0.2], [0, 1, 0]]
    maps[1:4] = 9  # outside of all nuclei
    np.testing.assert_allclose(certainty.evidence(labels, maps), [[0.75, 0.25, 0.5], [0, 0, 0], [0.375, 0.5, 0.3]])


@given(st.integers(0, 2**32 - 1))
def test_the_evidence_is_that_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    labels, maps = rng.integers(0, 5, (6, 7)), rng.random((6, 7, 3))
    for i, row in enumerate(certainty.evidence(labels, maps), start=1):
        own = maps[labels == i]
        expected = [*own[:, :2].mean(axis=0), own[:, 2].max()] if len(own) else [0, 0, 0]
        np.testing.assert_allclose(row, expected)


def test_each_number_counts():
    sure = certainty.certainty(*piece())
    assert sure.shape == (1,) and 0.9 < sure[0] < 1
    for changed in ({"mask": 0.7}, {"border": 0.4}, {"depth": 0.2}):
        assert certainty.certainty(*piece(**changed)) < sure
    for least in ({"mask": 0.65, "depth": 0.3}, {"border": 0.9}, {"mask": 0.8, "border": 0.2, "depth": 0.3}):
        assert certainty.certainty(*piece(**least)) < certainty.LEAST


def test_what_is_uncertain_is_dropped_and_the_numbers_have_no_gap():
    labels, maps = piece(side=3)
    labels[labels > 0] = 2
    labels[0, :5], maps[0, :5] = 1, (0.62, 0.1, 0.2)
    kept = certainty.keep_certain(labels, maps)
    assert kept.dtype == np.int32
    np.testing.assert_array_equal(kept, labels == 2)
    assert not certainty.keep_certain(np.zeros((4, 4), int), np.ones((4, 4, 3))).any()
    assert segment.pieces_from_maps(maps).max() == 0, "5 and 9 pixels are below the smallest area"
    assert segment.pieces_from_maps(maps, min_area=1).max() == 2
    np.testing.assert_array_equal(segment.labels_from_maps(maps, min_area=1), kept)


@pytest.mark.parametrize(
    ("labels", "maps", "message"),
    [
        (np.zeros((4, 4), int), np.zeros((4, 5, 3)), r"labels have shape \(4, 4\), maps \(4, 5, 3\)"),
        (np.zeros((4, 4), int), np.zeros((4, 4, 1)), "maps has shape"),
        (np.zeros((4, 4), int), np.full((4, 4, 3), np.nan), "maps holds values that are not finite"),
        (np.zeros((4, 4)), np.zeros((4, 4, 3)), "labels has dtype float64"),
        (np.full((4, 4), -1), np.zeros((4, 4, 3)), "labels holds -1"),
    ],
)
def test_wrong_arguments_are_named(labels, maps, message):
    with pytest.raises((ValueError, TypeError), match=f"^evidence: {message}"):
        certainty.keep_certain(labels, maps)


# ---------------------------------------------------------------------------------------- the fit
def test_pieces_are_nuclei_above_an_iou_of_one_half():
    true = np.zeros((4, 12), int)
    true[:, :4], true[:, 8:] = 1, 2
    pieces = np.zeros((4, 12), int)
    pieces[:, :3] = 1  # IoU 3/4
    pieces[:, 10:] = 2  # IoU 1/2
    pieces[0, 5:7] = 4  # beside; 3 does not occur
    assert fit_certainty.are_nuclei(pieces, true).tolist() == [True, False, False, False]
    assert fit_certainty.are_nuclei(0 * pieces, true).shape == (0,)


def test_the_fit_is_that_of_a_library():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.random((400, 3))
    y = x @ (4, -2, 1) + rng.logistic(size=400) > 1
    weight = rng.uniform(0.2, 2, 400)
    reference = linear_model.LogisticRegression(C=np.inf, tol=1e-8).fit(x, y, weight)
    expected = [*reference.coef_[0], reference.intercept_[0]]
    np.testing.assert_allclose(fit_certainty.fit(x, y, weight), expected, rtol=1e-3)


def test_groups_count_alike():
    samples = [synthetic_nuclei(np.random.default_rng(i)) for i in range(7)]
    samples = [dataclasses.replace(s, id=str(i), group="a" if i < 5 else "b") for i, s in enumerate(samples)]
    chosen = fit_certainty.some_of_each_group(samples)
    assert sorted(sample.group for sample in chosen) == ["a"] * fit_certainty.FROM_A_GROUP + ["b", "b"]
    assert len({sample.id for sample in chosen}) == len(chosen)


def test_the_command_prints_the_constants(monkeypatch, capsys):
    samples = [synthetic_nuclei(np.random.default_rng(i)) for i in range(2)]
    monkeypatch.setattr(fit_certainty, "read_nuclei", lambda path: samples)
    monkeypatch.setattr(fit_certainty, "split", lambda all_of_them: (all_of_them, []))
    fit_certainty.main(["stage1_train.zip"])
    assert re.search(r"pieces, .*of them nuclei\nWEIGHTS = \(\S+, \S+, \S+\)\nBIAS = \S+\n", capsys.readouterr().out)
