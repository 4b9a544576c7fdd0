"""Calibration: the curve and the expected calibration error, by hand and for a perfect forecaster."""

import numpy as np
import pytest

from tinynet import metrics


def test_the_curve_by_hand():
    confidence = np.array([0.0, 0.2, 0.5, 0.6, 0.9, 1.0])
    correct = np.array([0, 1, 0, 1, 1, 1])
    sure, right, count = metrics.calibration_curve(correct, confidence, bins=2)  # 0.5 is in the upper bin
    np.testing.assert_allclose(sure, [0.1, 0.75])
    np.testing.assert_allclose(right, [0.5, 0.75])
    assert count.tolist() == [2, 4]
    assert metrics.expected_calibration_error(correct, confidence, bins=2) == pytest.approx(2 / 6 * 0.4)
    assert metrics.calibration_curve(correct, confidence, bins=100)[2].tolist() == [1] * 6  # empty bins are left out


def test_a_forecaster_who_is_right_as_often_as_it_says():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 200_000)
    correct = rng.random(len(confidence)) < confidence
    assert metrics.expected_calibration_error(correct, confidence) < 0.005
    assert metrics.expected_calibration_error(correct, np.sqrt(confidence)) == pytest.approx(1 / 6, abs=0.005)


@pytest.mark.parametrize(
    ("correct", "confidence", "bins", "message"),
    [
        ([1, 0], [0.5], 15, r"correct \(2,\) and confidence \(1,\)"),
        ([], [], 15, "at least 1"),
        ([2, 0], [0.5, 0.5], 15, r"correct holds \[0, 2\]"),
        ([1, 0], [0.5, 1.5], 15, "lies in 0.5 .. 1.5"),
        ([1, 0], [0.5, np.nan], 15, "must lie in 0 .. 1"),
        ([1, 0], [0.5, 0.5], 0, "bins is 0"),
    ],
)
def test_bad_arguments_are_named(correct, confidence, bins, message):
    with pytest.raises(ValueError, match=message):
        metrics.expected_calibration_error(np.array(correct), np.array(confidence), bins)
