"""Configurations of prelu worth checking: one channel, few, a tail, negative slopes, several chunks."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case, away_from
from .op import prelu

#         label                        x
SHAPES = [
    ("one channel", (5, 1)),
    ("three channels, a tail", (23, 3)),
    ("eight channels", (6, 8)),
    ("no row", (0, 4)),
]
LARGE_SHAPES = [("several chunks", (2051, 19)), ("more channels than a period", (7, 130))]  # between tiers only


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a derivative by differences only if `large`."""
    return [_case(rng, *row) for row in SHAPES + (LARGE_SHAPES if large else [])]


def _case(rng: np.random.Generator, label: str, shape: tuple[int, int]) -> Case:
    x, gy = away_from(rng.standard_normal(shape), 0), rng.standard_normal(shape)
    slope = rng.standard_normal(shape[1])
    return Case(
        label=label,
        calls={"forward": ((x, slope), {}), "backward": ((gy, x, slope), {})},
        function=prelu,
        inputs=(x, slope),
        terms=max(1, shape[0]),
    )
