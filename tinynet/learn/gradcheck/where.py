"""Describes in words which entries of an array are marked: "all at [:, :, 2, :], the last column"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Axis name -> the word for an index along it.
WORDS = {
    "n": "sample",
    "h": "row",
    "w": "column",
    "c": "channel",
    "kh": "kernel row",
    "kw": "kernel column",
    "c_in": "input channel",
    "c_out": "output channel",
}


def default_axes(ndim: int) -> tuple[str, ...]:
    """Names for axes without names: 'axis 0', 'axis 1', ..."""
    return tuple(f"axis {k}" for k in range(ndim))


def one(axis: str, index: int, length: int) -> str:
    """'the last column' or 'column 3'; 'index 3 of axis 0' for an axis that has no word."""
    place = "first" if index == 0 else "last" if index == length - 1 else None
    if axis in WORDS:
        return f"the {place} {WORDS[axis]}" if place else f"{WORDS[axis]} {index}"
    return f"the {place} index of {axis}" if place else f"index {index} of {axis}"


def at(index: Sequence[int], axes: Sequence[str]) -> str:
    """An index with the names of its axes: 'n=0, h=2, w=1, c=3'; '[0, 2]' if the axes have no names."""
    if any(axis.startswith("axis ") for axis in axes):
        return str(list(index))
    return ", ".join(f"{axis}={i}" for axis, i in zip(axes, index))


def describe(marked: np.ndarray, axes: Sequence[str], known: Mapping[str, np.ndarray] | None = None) -> str:
    """The marked entries in words.

    marked: bool, of any shape. axes: the names of its axes. known: named arrays of the same shape. If the entries are
    marked exactly where one of these is negative, positive or zero, the text says so.
    """
    if not marked.any():
        return "nowhere"
    if marked.all():
        return "everywhere"
    indices = [np.flatnonzero(marked.any(axis=_others(marked, k))) for k in range(marked.ndim)]
    box = _slice_text(indices, marked.shape)
    if marked[np.ix_(*indices)].all():
        return f"all at {box}{_in_words(indices, marked.shape, axes)}"
    by_sign = _sign_of(marked, known or {})
    if by_sign:
        return f"exactly where {by_sign}"
    slices = _whole_slices(marked)
    if slices:
        return "all of " + " and of ".join(one(axes[k], i, marked.shape[k]) for k, i in slices)
    inside = marked[np.ix_(*indices)].size
    if inside < marked.size:
        words = _in_words(indices, marked.shape, axes)
        return f"{np.count_nonzero(marked)} of the {inside} entries at {box}{words}"
    return f"scattered over the array, {np.count_nonzero(marked)} of {marked.size} entries"


def _sign_of(marked: np.ndarray, known: Mapping[str, np.ndarray]) -> str | None:
    """'x < 0' if the entries are marked exactly where the known array x is negative; likewise for > and ==."""
    for name, array in known.items():
        if array.shape != marked.shape or not marked.any() or marked.all():
            continue
        for text, where in (("<", array < 0), (">", array > 0), ("==", array == 0)):
            if np.array_equal(marked, where):
                return f"{name} {text} 0"
    return None


def _others(array: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(k for k in range(array.ndim) if k != axis)


def _slice_text(indices: Sequence[np.ndarray], shape: Sequence[int]) -> str:
    return "[" + ", ".join(_one_slice(i, n) for i, n in zip(indices, shape)) + "]"


def _one_slice(indices: np.ndarray, length: int) -> str:
    """Indices along one axis as Python writes them: ':', '2', '1:', '::2' or '(0, 3)'."""
    if len(indices) == length:
        return ":"
    if len(indices) == 1:
        return str(indices[0])
    steps = set(np.diff(indices).tolist())
    if steps == {1}:
        start, stop = indices[0], indices[-1] + 1
        return f"{start if start else ''}:{stop if stop < length else ''}"
    if len(steps) == 1 and len(indices) > 2:
        start, step = indices[0], steps.pop()
        if start < step and indices[-1] + step >= length:
            return f"{start if start else ''}::{step}"
    return "(" + ", ".join(map(str, indices)) + ")"


def _in_words(indices: Sequence[np.ndarray], shape: Sequence[int], axes: Sequence[str]) -> str:
    """', the last column': the axes along which a single index, or all but one, is marked."""
    words = []
    for found, length, axis in zip(indices, shape, axes):
        missing = np.setdiff1d(np.arange(length), found)
        if len(missing) == 0:
            continue
        if len(found) == 1:
            words.append(one(axis, int(found[0]), length))
        elif len(missing) == 1:
            words.append(f"everything but {one(axis, int(missing[0]), length)}")
    return ", " + ", ".join(words) if words else ""


def _whole_slices(marked: np.ndarray) -> list[tuple[int, int]]:
    """The (axis, index) pairs whose slices together are exactly the marked entries; empty if there are none."""
    found, covered = [], np.zeros_like(marked)
    for axis in range(marked.ndim):
        if marked.shape[axis] == 1:
            continue
        for i in np.flatnonzero(marked.all(axis=_others(marked, axis))):
            found.append((axis, int(i)))
            covered[(slice(None),) * axis + (i,)] = True
    return found if len(found) <= 4 and np.array_equal(covered, marked) else []
