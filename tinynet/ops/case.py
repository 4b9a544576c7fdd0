"""What an op's `cases.py` yields: one configuration to check the op on.

The same cases serve the tests (every tier against the reference), the gradient check and the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Case:
    """One configuration of an op.

    label: says what is special about it.
    calls: for each kernel, (arrays, keyword parameters) as its functions take them. Float arrays are
        float64; whoever runs the case casts them to the dtype it checks.
    function, inputs: the op as a function of Tensors and the float64 arrays to differentiate it at.
    terms: how many numbers are summed into one output number; rounding errors grow with it.
    """

    label: str
    calls: dict[str, tuple[tuple, dict[str, Any]]]
    function: Callable
    inputs: tuple[np.ndarray, ...]
    terms: int = 1


def away_from(values: np.ndarray, kink: float, distance: float = 0.05) -> np.ndarray:
    """Push values out of (kink - distance, kink + distance), where a numeric derivative would cross the kink."""
    offset = values - kink
    moved = np.where(np.abs(offset) < distance, np.copysign(distance + np.abs(offset), offset), offset)
    return np.asarray(kink + moved)
