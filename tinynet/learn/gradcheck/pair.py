"""A wrong array beside the right one, and the small functions with which mistakes are tried on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, combinations

import numpy as np

from .where import WORDS

DECISIVE = 0.1
Candidate = tuple[str, np.ndarray]  # (sentence, the array that this mistake would give)


@dataclass(frozen=True)
class Pair:
    """A wrong result beside the right one, and what is known about them; arrays are float64.

    actual, expected: of one shape. allowed: the accepted difference, of that shape. axes: the names of its axes.
    noun: what the arrays are, e.g. 'gradient'. gy, gy_axes: the upstream gradient and the names of its axes.
    jacobian: expected.shape + gy.shape. known: other arrays by name, such as the inputs.
    alternatives: sentence -> a function that computes what that mistake gives, or None if it cannot.
    """

    actual: np.ndarray
    expected: np.ndarray
    allowed: np.ndarray
    axes: Sequence[str]
    noun: str = "result"
    gy: np.ndarray | None = None
    gy_axes: Sequence[str] = ()
    jacobian: np.ndarray | None = None
    known: Mapping[str, np.ndarray] = field(default_factory=dict)
    alternatives: Mapping[str, Callable[[], np.ndarray | None]] = field(default_factory=dict)

    @property
    def is_wrong(self) -> np.ndarray:
        """For each entry: the two differ by more than is allowed. bool."""
        undecided = np.isinf(self.allowed) & np.isfinite(self.actual)
        return ~(self._near(self.expected, 0.0) | undecided)

    def is_given_by(self, candidate: np.ndarray) -> bool:
        """True if `candidate`, what a mistake gives, equals the actual result.

        Candidates have rounding errors of their own, and those computed by differences have larger ones. So some slack
        is granted, but only a small part of the mistake itself: a candidate that is merely near the right result must
        not fit. If what is allowed, with the error bar, is no small part of any wrong entry, nothing is claimed.
        """
        with np.errstate(invalid="ignore"):
            difference = np.nan_to_num(np.abs(self.actual - self.expected), nan=np.inf)
            mistake = np.max(difference, initial=0.0)
        if not (self.is_wrong & ~(self.allowed > DECISIVE * difference)).any():
            return False
        size = np.max(np.abs(self.expected), initial=0.0)
        slack = np.nan_to_num(min(1e-7 * size, 1e-4 * mistake), posinf=0.0)
        return candidate.shape == self.actual.shape and bool(self._near(candidate, slack).all())

    def _near(self, other: np.ndarray, slack: float) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(self.actual - other) <= self.allowed + slack
        return near | (np.isnan(self.actual) & np.isnan(other)) | (self.actual == other)


def number(value: float) -> str:
    """A factor as people write it: 2, 1/3, -1/2, 0.999."""
    inverse = Fraction(1, round(1 / value)) if value and round(1 / value) else Fraction(0)
    for fraction in (Fraction(value).limit_denominator(12), inverse):
        if fraction and math.isclose(value, fraction, rel_tol=1e-6):
            return str(fraction)
    return f"{value:.6g}"


def fitted_factor(actual: np.ndarray, candidate: np.ndarray) -> float | None:
    """The c for which c * candidate is nearest to actual; None if there is none."""
    norm = float(np.sum(candidate * candidate))
    if not (np.isfinite(actual).all() and math.isfinite(norm)) or norm == 0:
        return None
    factor = float(np.sum(actual * candidate)) / norm
    return factor if math.isfinite(factor) and abs(factor) > 1e-12 else None


def lengths_in_words(factor: float, pair: Pair) -> list[str]:
    """' (3 is the length of c: summed where it must be averaged?)' for each such length or its inverse; then ''."""
    size = abs(factor)
    inverse = size < 1
    count = 1 / size if inverse else size
    words = []
    # gy first: a mean over the batch is the most common mistake.
    for name, array, axes in ((" of gy", pair.gy, pair.gy_axes), ("", pair.expected, pair.axes)):
        if array is None:
            continue
        for some in subsets(range(array.ndim)):
            length = math.prod(array.shape[k] for k in some)
            if length > 1 and math.isclose(count, length, rel_tol=1e-6):
                asked = "averaged where it must be summed?" if inverse else "summed where it must be averaged?"
                words.append(f" ({length} is the length of {names_of(axes, some)}{name}: {asked})")
    return [*words, ""]


def shifts(array: np.ndarray, axes: Sequence[str]) -> Iterator[Candidate]:
    """Shifts by one index along each axis, in both directions, with zeros or going round."""
    for k, length in enumerate(array.shape):
        if length < 2:
            continue
        for step, direction in ((1, "towards the end"), (-1, "towards the start")):
            rolled = np.roll(array, step, axis=k)
            yield f"{names_of(axes, [k])} {direction} (zeros come in)", rolled - kept(rolled, k, 0 if step == 1 else -1)
            yield f"{names_of(axes, [k])} {direction} (going round)", rolled


def kept(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """The array with zeros everywhere except at this index of the axis."""
    out = np.zeros_like(array)
    at = (slice(None),) * axis + (index,)
    out[at] = array[at]
    return out


def gradient_for(jacobian: np.ndarray, gy: np.ndarray) -> np.ndarray:
    return np.tensordot(jacobian, gy, axes=gy.ndim)


def fits(array: np.ndarray, like: np.ndarray) -> bool:
    """True if the array broadcasts to the shape of `like`."""
    try:
        return np.broadcast_shapes(array.shape, like.shape) == like.shape
    except ValueError:
        return False


def subsets(indices: Sequence[int]) -> list[tuple[int, ...]]:
    """All selections of one or more of the indices, the small ones first."""
    indices = list(indices)
    return list(chain.from_iterable(combinations(indices, n) for n in range(1, len(indices) + 1)))


def names_of(axes: Sequence[str], some: Sequence[int]) -> str:
    """'h and w', or 'n (samples)' for a single one with a word of its own."""
    names = [axes[k] for k in some]
    if len(names) == 1:
        return f"{names[0]} ({WORDS[names[0]]}s)" if names[0] in WORDS else names[0]
    return ", ".join(names[:-1]) + " and " + names[-1]
