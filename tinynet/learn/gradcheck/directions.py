"""Derivatives along random directions, for large inputs: one number in place of one for each element.

For a direction v the chain rule says <gradient, v> = d/dt sum(gy * f(x + t v)) at t = 0. A gradient that is wrong
anywhere fails for almost every v, but the number does not say where. So if one fails, v is cut into slices along each
axis. Each slice is a direction as well, and the slices that fail show where the mistake is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from .numeric import Derivative, central_differences
from .where import describe

DIRECTIONS = 8


def along(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, gy: np.ndarray, directions: Sequence[np.ndarray], h: float
) -> Derivative:
    """The derivative of sum(gy * f(x)) along each of the directions, arrays of the shape of x."""

    def moved(t: np.ndarray) -> np.ndarray:
        return f(sum((t[k] * directions[k] for k in np.flatnonzero(t).tolist()), x))

    return central_differences(moved, np.zeros(len(directions)), gy, h=h)._replace(jacobian=None)


def random_directions(shape: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Eight directions with elements between -1 and 1."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1.0, 1.0, size=shape) for _ in range(DIRECTIONS)]


def wrong_slices(is_wrong: Callable[[Any], bool], v: Any, axes: Sequence[str]) -> str:
    """Which slices of an array fail, in words, axis by axis.

    is_wrong: tells if a direction fails. v: a direction that fails, on any device. axes: the names of its axes.
    """
    words = []
    for k, length in enumerate(v.shape):
        marked = np.zeros(length, dtype=bool)
        for i in range(length):
            part = array_module(v).zeros_like(v)
            at = (slice(None),) * k + (i,)
            part[at] = v[at]
            marked[i] = is_wrong(part)
        words.append(f"along {axes[k]} {describe(marked, [axes[k]])}")
    return "wrong slices: " + "; ".join(words)
