"""The smallest case that still fails: what a student can follow with pencil and paper."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Axis = tuple[int, int]  # (number of the input, axis)
TRIALS = 80  # a function may be slow, and the case need not be minimal
SHOWN = 12  # inputs with up to so many elements are printed


def smallest(fails: Callable[[list[np.ndarray]], bool], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cut the arrays down, axis by axis, as long as `fails` says that the check still fails.

    fails(arrays): False if the check passes or the function refuses these shapes. Axes of several inputs may have to
    shrink together (the channels of x and of the weight). So an axis that cannot shrink alone is tried together with
    one other axis of the same length, and then with all of them.
    """
    trials = itertools.count(1)

    def smaller(arrays: list[np.ndarray]) -> list[np.ndarray] | None:
        for axes in _groups(arrays):
            length = arrays[axes[0][0]].shape[axes[0][1]]
            for shorter in sorted({1, length // 2, length - 1} - {0, length}):
                cut = _cut(arrays, axes, shorter)
                if next(trials) <= TRIALS and fails(cut):
                    return cut
        return None

    arrays = list(arrays)
    while (cut := smaller(arrays)) is not None:
        arrays = cut
    return arrays


def described(arrays: Sequence[np.ndarray], names: Sequence[str]) -> str:
    """'x (1, 2), w (2, 1)', and the values of the small arrays below."""
    shapes = ", ".join(f"{name} {a.shape}" for name, a in zip(names, arrays))
    lines = [shapes]
    for name, a in zip(names, arrays):
        if a.size <= SHOWN:
            lines.append(f"  {name} = {' '.join(np.array2string(a, precision=4, separator=', ').split())}")
    return "\n".join(lines)


def _groups(arrays: Sequence[np.ndarray]) -> Iterator[tuple[Axis, ...]]:
    """The axes to shorten together: each alone, any two of one length, all of one length."""
    axes = [(i, k) for i, a in enumerate(arrays) for k in range(a.ndim) if a.shape[k] > 1]
    by_length: dict[int, list[Axis]] = {}
    for i, k in axes:
        by_length.setdefault(arrays[i].shape[k], []).append((i, k))
    yield from ((axis,) for axis in axes)
    for same in by_length.values():
        yield from itertools.combinations(same, 2)
    yield from (tuple(same) for same in by_length.values() if len(same) > 2)


def _cut(arrays: Sequence[np.ndarray], axes: Sequence[Axis], length: int) -> list[np.ndarray]:
    cut = list(arrays)
    for i, k in axes:
        cut[i] = np.ascontiguousarray(cut[i][(slice(None),) * k + (slice(length),)])
    return cut
