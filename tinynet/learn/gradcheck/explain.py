"""What is wrong with an array, in words: where, by how much, and which mistake gives exactly that.

    print(explain(actual, expected, axes=("n", "h", "w", "c")))

works for any pair of arrays, results of a forward function included. `gradcheck` and `compare_tiers` report with it.

    explain.py    the report
    where.py      which entries are wrong, in words
    patterns.py   the mistakes that people make; search.py: which of them reproduces the wrong result
    plane.py      the values around the worst entry, side by side or as a heat map
"""

from __future__ import annotations

import itertools
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...backends.devices import to_device
from .outcome import Outcome
from .pair import Pair
from .plane import Plane
from .search import search
from .where import at, default_axes, describe


@dataclass(frozen=True)
class Entry:
    """One entry: its index, the names of the axes, its value, the right value and the uncertainty of that."""

    index: tuple[int, ...]
    axes: tuple[str, ...]
    actual: float
    expected: float
    error_bar: float

    @property
    def ratio(self) -> float:
        """actual / expected; NaN if expected is 0."""
        return self.actual / self.expected if self.expected else float("nan")

    def __str__(self) -> str:
        bar = f" (error bar {self.error_bar:.1g})" if self.error_bar else ""
        place = f"at {at(self.index, self.axes)}: " if self.index else ""
        return f"{place}{self.actual:.9g}, not {self.expected:.9g}{bar}; ratio {self.ratio:.6g}"


@dataclass(frozen=True, repr=False)
class Explanation(Outcome):
    """What `explain` found; str() is the whole report.

    wrong, size: how many entries of how many. where: the wrong entries in words. accuracy: the largest difference over
    the largest value. worst: the entry with the largest difference, None if nothing is wrong or the shapes differ.
    plane: the values around it. sentence: the mistake that reproduces the wrong result exactly, or None. tried: the
    kinds of mistakes that do not reproduce it. fitting: all mistakes that reproduce it, if `every` was asked for.
    """

    name: str
    shape: tuple[int, ...]
    wrong: int
    size: int
    where: str
    accuracy: float
    worst: Entry | None = None
    plane: Plane | None = None
    sentence: str | None = None
    tried: tuple[str, ...] = ()
    fitting: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if nothing is wrong."""
        return self.wrong == 0

    def heat_map(self, path: str | os.PathLike) -> None:
        """Write the plane through the worst entry as a PNG. Raises ValueError if nothing is wrong."""
        if self.plane is None:
            raise ValueError(f"heat_map: {self.name} has no wrong entry to show")
        self.plane.heat_map(path)

    def __str__(self) -> str:
        shape = f"{self.name}, shape {self.shape}"
        if self.passed:
            return f"{shape}: right, to {self.accuracy:.1g} of the largest value"
        lines = [f"{shape}: {self.wrong} of {self.size} elements wrong, {self.where}"]
        if self.sentence:
            lines.append(f"  the mistake: {self.sentence}")
        elif self.tried:
            tried = f"no mistake that is known here gives exactly this; tried: {'; '.join(self.tried)}"
            lines += textwrap.wrap(tried, 116, initial_indent="  ", subsequent_indent="    ")
        if self.worst is not None:
            lines += [f"  worst {self.worst}", "  " + str(self.plane).replace("\n", "\n  ")]
        return "\n".join(lines)


def explain(
    actual: np.ndarray,
    expected: np.ndarray,
    *,
    axes: Sequence[str] | None = None,
    error_bar: np.ndarray | float = 0.0,
    tolerance: np.ndarray | float | None = None,
    gy: np.ndarray | None = None,
    gy_axes: Sequence[str] | None = None,
    jacobian: np.ndarray | None = None,
    known: Mapping[str, np.ndarray] | None = None,
    alternatives: Mapping[str, Callable[[], np.ndarray | None]] | None = None,
    name: str = "the result",
    noun: str = "result",
    titles: tuple[str, str] = ("got", "right"),
    every: bool = False,
) -> Explanation:
    """Compare two arrays and, if they differ, find the mistake that turns the right one into the wrong one.

    actual, expected: arrays of any shape and dtype, on any device; expected is right.
    axes: the name of each axis. n, h, w, c, kh, kw, c_in and c_out have words of their own ("the last column").
    error_bar: the uncertainty of expected. tolerance: the accepted difference in addition to that; by default 1e-6 of
        the largest expected value, 1e-4 if one of the arrays is float32. Numbers or arrays of the same shape.

    Further arguments widen the search:
    gy, gy_axes, jacobian: the upstream gradient, and the derivatives of shape expected.shape + gy.shape
        (`jacobian_of`): mistakes in the use of gy, or in summing.
    known: other arrays by name, such as {"x": x}: forgotten factors, and signs ("exactly where x < 0").
    alternatives: sentence -> function that computes what that mistake gives, or None if it cannot.

    name, noun, titles: how the report calls the arrays. every: find all mistakes that fit, not only the first.
    Raises ValueError if the number of axes is wrong.
    """
    actual, expected = _numpy(actual), _numpy(expected)
    axes = tuple(axes) if axes is not None else default_axes(expected.ndim)
    if len(axes) != expected.ndim:
        raise ValueError(
            f"explain: axes {axes} has {len(axes)} names, expected {expected.shape} has {expected.ndim} axes"
        )
    if tolerance is None:
        is_coarse = np.float32 in (actual.dtype, expected.dtype)
        finite = np.abs(expected[np.isfinite(expected)])
        tolerance = (1e-4 if is_coarse else 1e-6) * float(np.max(finite, initial=0.0))
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    if actual.shape != expected.shape:
        return _of_another_shape(actual, expected, axes, name, float(np.max(tolerance)))
    error_bar = np.broadcast_to(error_bar, expected.shape)
    pair = Pair(
        actual,
        expected,
        np.broadcast_to(tolerance, expected.shape) + np.nan_to_num(error_bar, nan=np.inf),
        axes,
        noun,
        gy=None if gy is None else _numpy(gy).astype(np.float64),
        gy_axes=tuple(gy_axes) if gy_axes is not None else default_axes(0 if gy is None else np.ndim(gy)),
        jacobian=jacobian,
        known={key: _numpy(a).astype(np.float64) for key, a in (known or {}).items()},
        alternatives=alternatives or {},
    )
    is_wrong = pair.is_wrong
    with np.errstate(invalid="ignore"):
        difference = np.abs(actual - expected)
    scale = float(np.max(np.abs(expected), initial=0.0)) or 1.0
    accuracy = float(np.max(difference, initial=0.0)) / scale
    if not is_wrong.any():
        return Explanation(name, expected.shape, 0, expected.size, "nowhere", accuracy)
    flat = int(np.argmax(np.where(is_wrong, np.nan_to_num(difference, nan=np.inf), -1.0)))
    index = tuple(int(i) for i in np.unravel_index(flat, expected.shape))
    tried: list[str] = []
    sentences = search(pair, tried)
    fitting = tuple(sentences if every else itertools.islice(sentences, 1))
    return Explanation(
        name,
        expected.shape,
        int(np.count_nonzero(is_wrong)),
        expected.size,
        describe(is_wrong, axes, pair.known),
        accuracy,
        Entry(index, axes, float(actual[index]), float(expected[index]), float(error_bar[index])),
        Plane(actual, expected, is_wrong, index, axes, titles),
        fitting[0] if fitting else None,
        tuple(tried),
        fitting,
    )


def jacobian_of(backward: Callable[[np.ndarray], np.ndarray], gy_shape: tuple[int, ...]) -> np.ndarray:
    """All derivatives of a function, from a right backward that is called with each gy that is 1 at one element.

    backward: from an array of shape gy_shape to the gradient, linear in gy. Returns gradient.shape + gy_shape.
    """
    unit = np.zeros(gy_shape)
    columns = []
    for index in np.ndindex(gy_shape):
        unit[index] = 1.0
        columns.append(np.array(backward(unit)))
        unit[index] = 0.0
    return np.stack(columns, axis=-1).reshape((*columns[0].shape, *gy_shape))


def _numpy(array: np.ndarray) -> np.ndarray:
    return np.asarray(to_device(array, "cpu"))


# ---------------------------------------------------------------------------------------- of another shape
def _of_another_shape(
    actual: np.ndarray, expected: np.ndarray, axes: tuple[str, ...], name: str, tolerance: float
) -> Explanation:
    """The report if the shapes differ: the values cannot be compared, but the shapes often show the mistake."""

    def is_right(values: np.ndarray) -> bool:
        return values.shape == expected.shape and np.allclose(values, expected, rtol=0, atol=tolerance)

    sentence = next((text for text, mended in _shape_mistakes(actual, expected, axes) if is_right(mended)), None)
    where = f"its shape is {actual.shape}, {expected.shape} is needed"
    tried = ("a broadcast not summed back", "swapped axes", "an axis of length 1", "a row or column lost or too many")
    size, fitting = max(expected.size, 1), (sentence,) if sentence else ()
    return Explanation(name, expected.shape, size, size, where, float("inf"), None, None, sentence, tried, fitting)


def _shape_mistakes(
    actual: np.ndarray, expected: np.ndarray, axes: tuple[str, ...]
) -> Iterator[tuple[str, np.ndarray]]:
    """(sentence, `actual` with that mistake undone)."""
    extra = actual.ndim - expected.ndim
    if extra >= 0:
        padded = (1,) * extra + expected.shape
        wide = tuple(k for k in range(actual.ndim) if padded[k] == 1 and (actual.shape[k] != 1 or k < extra))
        if all(actual.shape[k] == padded[k] for k in range(actual.ndim) if k not in wide):
            over = f"axis {wide[0]}" if len(wide) == 1 else f"axes {wide}"
            back = f"a broadcast is not summed back: sum it over {over}"
            yield back, actual.sum(axis=wide, keepdims=True).reshape(expected.shape)
    if actual.size == expected.size:
        if actual.ndim == expected.ndim:
            yield f"axes are swapped: {actual.shape} transposed is right", actual.T
        yield f"the values are right, reshaped to {expected.shape}", actual.reshape(expected.shape)
    if actual.ndim == expected.ndim:
        common = tuple(slice(min(a, b)) for a, b in zip(actual.shape, expected.shape))
        short = [axis for axis, a, b in zip(axes, actual.shape, expected.shape) if a < b]
        long = [axis for axis, a, b in zip(axes, actual.shape, expected.shape) if a > b]
        if short and not long:
            patched = expected.copy()
            patched[common] = actual
            yield f"the values are right, but the last ones along {' and '.join(short)} are missing", patched
        if long and not short:
            yield f"the values are right, but there are too many along {' and '.join(long)}", actual[common]
