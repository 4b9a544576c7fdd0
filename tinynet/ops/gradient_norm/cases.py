"""Configurations of the norm of gradients worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """One array, several, arrays without elements or without axes, and a sum of zeros."""
    lists = [[(3, 4)], [(3, 4), (5,), (), (0, 2), (1, 1)], [(0,)]] + ([[(300, 301), (7,), (2048,)]] if large else [])
    return [_case([np.asarray(rng.standard_normal(shape)) for shape in shapes]) for shapes in lists]


def _case(gradients: list[np.ndarray]) -> Case:
    return Case(
        label=f"shapes {[g.shape for g in gradients]}",
        calls={"sum_of_squares": ((gradients,), {}), "scale": ((gradients,), {"factor": 0.3})},
        changed={"scale": 1},
    )
