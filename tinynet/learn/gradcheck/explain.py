"""What is wrong with an array, in words: where, by how much, and which mistake gives exactly that.

    print(explain(got, want, axes=("n", "h", "w", "c")))

works for any pair of arrays, results of a forward function included. `gradcheck` and `compare_tiers` report with it.

    explain.py    the report
    where.py      which entries are wrong, in words
    patterns.py   which mistake reproduces the wrong result
    plane.py      the numbers around the worst entry, side by side, or as a heat map
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...backends.devices import to_device
from . import plane
from .patterns import Pair, search
from .where import at, default_axes, describe


@dataclass(frozen=True)
class Entry:
    """One entry: its index, the names of the axes, what it is, what it should be and how sure that is."""

    index: tuple[int, ...]
    axes: tuple[str, ...]
    got: float
    want: float
    error_bar: float

    @property
    def ratio(self) -> float:
        """got / want; NaN where want is 0."""
        return self.got / self.want if self.want else float("nan")

    def __str__(self) -> str:
        bar = f" (error bar {self.error_bar:.1g})" if self.error_bar else ""
        place = f"at {at(self.index, self.axes)}: " if self.index else ""
        return f"{place}{self.got:.9g}, not {self.want:.9g}{bar}; ratio {self.ratio:.6g}"


@dataclass(frozen=True)
class Explanation:
    """What `explain` found; str() is the whole report.

    sentence: the mistake that reproduces the wrong result exactly, or None. where: the wrong entries in words.
    worst: the entry that is off most, None where nothing is wrong or the shapes differ. plane: the numbers around it,
    side by side. tried: the kinds of mistakes that do not reproduce it. wrong, size: how many entries of how many.
    accuracy: the largest difference over the largest value.
    """

    name: str
    shape: tuple[int, ...]
    wrong: int
    size: int
    where: str
    worst: Entry | None
    plane: str
    sentence: str | None
    tried: tuple[str, ...]
    accuracy: float
    _arrays: tuple = field(repr=False, default=())

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.wrong == 0

    def __bool__(self) -> bool:
        return self.passed

    def heat_map(self, path: str | os.PathLike) -> None:
        """Write the plane through the worst entry as a PNG: got, want, difference. ValueError if nothing is wrong."""
        if self.worst is None:
            raise ValueError(f"heat_map: {self.name} has no wrong entry to show")
        plane.heat_map(path, *self._arrays)

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
            lines.append(f"  worst {self.worst}")
            lines.append("  " + self.plane.replace("\n", "\n  "))
        return "\n".join(lines)


def explain(
    got: np.ndarray,
    want: np.ndarray,
    *,
    axes: Sequence[str] | None = None,
    error_bar: np.ndarray | float | None = None,
    tolerance: np.ndarray | float | None = None,
    gy: np.ndarray | None = None,
    gy_axes: Sequence[str] | None = None,
    jacobian: np.ndarray | None = None,
    known: Mapping[str, np.ndarray] | None = None,
    alternatives: Mapping[str, Callable[[], np.ndarray | None]] | None = None,
    name: str = "the result",
    noun: str = "result",
    titles: tuple[str, str] = ("got", "right"),
) -> Explanation:
    """Compare two arrays and, where they differ, find the mistake that turns the right one into the wrong one.

    got, want: numbers of any shape and dtype, on any device; want is right.
    axes: the name of each axis: n, h, w, c, kh, kw, c_in and c_out have words of their own ("the last column").
    error_bar: how far `want` can be trusted. tolerance: what else they may differ; by default 1e-6 of the largest
        value of want, 1e-4 if one of the two is float32. Numbers or arrays of their shape.

    What else is known widens the search:
    gy, gy_axes, jacobian: the upstream gradient, and the derivatives of shape want.shape + gy.shape
        (`jacobian_of`): mistakes made with gy or in adding up.
    known: other arrays by name, such as {"x": x}: forgotten factors, and signs ("exactly where x < 0").
    alternatives: sentence -> function that computes what that mistake gives, or None if it cannot.

    name, noun, titles: what the arrays are called in the report.
    """
    got, want = _numpy(got), _numpy(want)
    axes = tuple(axes) if axes is not None else default_axes(want.ndim)
    if len(axes) != want.ndim:
        raise ValueError(f"explain: axes {axes} has {len(axes)} names, want {want.shape} has {want.ndim} axes")
    if tolerance is None:
        coarse = np.float32 in (got.dtype, want.dtype)
        finite = np.abs(want[np.isfinite(want)])
        tolerance = (1e-4 if coarse else 1e-6) * float(np.max(finite, initial=0.0))
    got, want = got.astype(np.float64), want.astype(np.float64)
    if got.shape != want.shape:
        return _of_another_shape(got, want, axes, name, float(np.max(tolerance)))
    error_bar = np.broadcast_to(0.0 if error_bar is None else error_bar, want.shape)
    pair = Pair(
        got,
        want,
        np.broadcast_to(tolerance, want.shape) + np.nan_to_num(error_bar, nan=np.inf),
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
        difference = np.abs(got - want)
    scale = float(np.max(np.abs(want), initial=0.0)) or 1.0
    accuracy = float(np.max(difference, initial=0.0)) / scale
    if not is_wrong.any():
        return Explanation(name, want.shape, 0, want.size, "nowhere", None, "", None, (), accuracy)
    flat = int(np.argmax(np.where(is_wrong, np.nan_to_num(difference, nan=np.inf), -1.0)))
    index = tuple(int(i) for i in np.unravel_index(flat, want.shape))
    worst = Entry(index, axes, float(got[index]), float(want[index]), float(error_bar[index]))
    sentence, tried = search(pair)
    arrays = (got, want, is_wrong, index, axes, titles)
    return Explanation(
        name,
        want.shape,
        int(np.count_nonzero(is_wrong)),
        want.size,
        describe(is_wrong, axes, pair.known),
        worst,
        plane.side_by_side(*arrays),
        sentence,
        tried,
        accuracy,
        arrays,
    )


def jacobian_of(backward: Callable[[np.ndarray], np.ndarray], gy_shape: tuple[int, ...]) -> np.ndarray:
    """All derivatives of a function whose backward is right: backward(gy) for every gy that is 1 at one element.

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
    got: np.ndarray, want: np.ndarray, axes: tuple[str, ...], name: str, tolerance: float
) -> Explanation:
    """The report where the shapes differ: nothing can be compared, but the shapes themselves say a lot."""
    sentence = next((text for text, right in _shape_mistakes(got, want, axes) if _equal(right, want, tolerance)), None)
    where = f"its shape is {got.shape}, {want.shape} is needed"
    tried = ("a broadcast not summed back", "swapped axes", "an axis of length 1", "a row or column lost or too many")
    return Explanation(
        name, want.shape, max(want.size, 1), max(want.size, 1), where, None, "", sentence, tried, float("inf")
    )


def _shape_mistakes(got: np.ndarray, want: np.ndarray, axes: tuple[str, ...]):
    """(sentence, what `got` becomes once that mistake is undone)."""
    extra = got.ndim - want.ndim
    if extra >= 0:
        padded = (1,) * extra + want.shape
        wide = tuple(k for k in range(got.ndim) if padded[k] == 1 and (got.shape[k] != 1 or k < extra))
        if all(got.shape[k] == padded[k] for k in range(got.ndim) if k not in wide):
            over = f"axis {wide[0]}" if len(wide) == 1 else f"axes {wide}"
            back = f"a broadcast is not summed back: sum it over {over}"
            yield back, got.sum(axis=wide, keepdims=True).reshape(want.shape)
    if got.size == want.size:
        if got.ndim == want.ndim:
            yield f"axes are swapped: {got.shape} transposed is right", got.T
        yield f"the values are right, reshaped to {want.shape}", got.reshape(want.shape)
    if got.ndim == want.ndim:
        common = tuple(slice(min(a, b)) for a, b in zip(got.shape, want.shape))
        short = [axes[k] for k in range(got.ndim) if got.shape[k] < want.shape[k]]
        long = [axes[k] for k in range(got.ndim) if got.shape[k] > want.shape[k]]
        if short and not long:
            patched = want.copy()
            patched[common] = got
            yield f"the values are right, but the last ones along {' and '.join(short)} are missing", patched
        if long and not short:
            yield f"the values are right, but there are too many along {' and '.join(long)}", got[common]


def _equal(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=tolerance))
