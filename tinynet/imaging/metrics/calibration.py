"""Calibration: does a net that is 80 % sure answer correctly in 80 % of the cases?"""

import numpy as np


def calibration_curve(
    correct: np.ndarray, confidence: np.ndarray, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean confidence, share of correct answers, number of answers) in each bin that is not empty.

    correct: bool, or 0 and 1, (N,); confidence: the probability that the net gives to its answer, (N,) in [0, 1]. The
    bins divide [0, 1] into equal widths; a confidence on the edge between two bins is in the upper one. Raises
    ValueError for other shapes, no answers, other values, or less than one bin. (Guo, Pleiss, Sun, Weinberger, On
    calibration of modern neural networks, ICML 2017, section 2.)
    """
    correct, confidence = np.asarray(correct), np.asarray(confidence, dtype=np.float64)
    if correct.ndim != 1 or correct.shape != confidence.shape or not correct.size:
        raise ValueError(
            f"calibration_curve: correct {correct.shape} and confidence {confidence.shape} must be two vectors of the "
            "same length, at least 1"
        )
    if not np.isin(correct, (0, 1)).all():
        raise ValueError(f"calibration_curve: correct holds {np.unique(correct)[:5].tolist()}; it must be 0 or 1")
    if not ((confidence >= 0) & (confidence <= 1)).all():  # False for NaN, too
        raise ValueError(
            f"calibration_curve: confidence lies in {confidence.min():.3g} .. {confidence.max():.3g}; it must lie in "
            "0 .. 1"
        )
    if bins < 1:
        raise ValueError(f"calibration_curve: bins is {bins}; at least 1 is needed")
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(number, minlength=bins)
    filled = count > 0
    means = [np.bincount(number, values, bins)[filled] / count[filled] for values in (confidence, correct)]
    return means[0], means[1], count[filled]


def expected_calibration_error(correct: np.ndarray, confidence: np.ndarray, bins: int = 15) -> float:
    """The mean distance between confidence and share of correct answers; each bin counts by its number of answers.

    0 is perfect calibration. Arguments and errors as in `calibration_curve`.
    """
    sure, right, count = calibration_curve(correct, confidence, bins)
    return float(np.average(np.abs(sure - right), weights=count))
