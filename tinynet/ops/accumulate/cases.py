"""Configurations of accumulate worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases: any shape, channel slices on either side."""
    shapes = [(2, 3, 4, 5), (7,), (1,), (0, 3), ()] + ([(3, 37, 41, 16), (1, 2, 3, 20_000)] if large else [])
    pairs = [(np.asarray(rng.standard_normal(s)), np.asarray(rng.standard_normal(s))) for s in shapes]
    wide = rng.standard_normal((2, 65, 67, 7))
    slices = [(wide[..., :4], wide[..., 3:]), (wide[..., :4].copy(), wide[..., 1:5]), (wide[:, ::2], wide[:, ::2])]
    return [_case(x, y) for x, y in pairs + (slices if large else [])]


def _case(x: np.ndarray, y: np.ndarray) -> Case:
    return Case(
        label=f"shape {x.shape}, strides {x.strides} and {y.strides}",
        calls={"add": ((x, y), {})},
    )
