"""What an op's `cases.py` yields: one configuration to check the op on.

The same cases serve the tests (every tier against the reference), the gradient check and the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Case:
    """One configuration of an op.

    label: says what is special about it.
    calls: for each kernel, (arrays, keyword parameters) as its functions take them; in the place of an array
        there may be a list of them. Float arrays are float64; whoever runs the case casts them to the dtype it checks.
    function, inputs: the op as a function of Tensors and the float64 arrays to differentiate it at; None in a folder
        without `op.py`, whose kernels have no gradient.
    changed: for a kernel that works in place, how many of its arrays, the first ones, it changes.
    terms: how many products or elements are summed into one output element; rounding errors grow with it.
    """

    label: str
    calls: dict[str, tuple[tuple, dict[str, Any]]]
    function: Any = None  # a Callable, or None
    inputs: tuple[np.ndarray, ...] = ()
    terms: int = 1
    changed: dict[str, int] = field(default_factory=dict)


def map_arrays(function: Callable[[Any], Any], value: Any) -> Any:
    """The value with `function` applied to each array in it, also in lists and plain tuples; the rest unchanged.

    A NamedTuple, such as a Geometry, holds numbers, and stays what it is.
    """
    if type(value) in (list, tuple):
        return type(value)(map_arrays(function, v) for v in value)
    return function(value) if hasattr(value, "dtype") else value


def away_from(values: np.ndarray, kink: float, distance: float = 0.05) -> np.ndarray:
    """Push values out of (kink - distance, kink + distance), where a numeric derivative would cross the kink."""
    offset = values - kink
    moved = np.where(np.abs(offset) < distance, np.copysign(distance + np.abs(offset), offset), offset)
    return np.asarray(kink + moved)
