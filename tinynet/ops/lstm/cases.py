"""Configurations of lstm worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from . import reference
from .op import lstm

#         label                      T  N  H  lengths
SIZES = [
    ("one step", 1, 1, 2, None),
    ("several steps", 3, 1, 2, None),
    ("lengths that differ", 2, 3, 1, [2, 0, 1]),
    ("no sample", 2, 0, 3, None),
]
LARGE_SIZES = [("wide", 9, 5, 37, None), ("long, lengths that differ", 23, 4, 16, [23, 5, 0, 17])]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a derivative by differences only if `large`."""
    return [_case(rng, *size) for size in SIZES + (LARGE_SIZES if large else [])]


def _case(rng, label, steps, samples, hidden, lengths) -> Case:
    a = rng.standard_normal((steps, samples, 4 * hidden))
    weight = rng.standard_normal((hidden, 4 * hidden)) / np.sqrt(hidden)
    h, c = rng.standard_normal((2, samples, hidden))
    ends = None if lengths is None else np.array(lengths)
    states, gates = reference.forward.definition(a, weight, h, c, ends)
    gstates = rng.standard_normal(states.shape)
    return Case(
        label=label,
        calls={
            "forward": ((a, weight, h, c, ends), {}),
            "backward": ((gstates, states, gates, weight, h, c, ends), {}),
        },
        function=lambda a, weight, h, c: lstm(a, weight, h, c, ends),
        inputs=(a, weight, h, c),
        terms=4 * hidden * steps,
    )
