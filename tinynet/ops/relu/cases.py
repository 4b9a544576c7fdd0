"""Configurations of ReLU worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case, away_from
from .op import relu
from .reference import forward


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases. Values to differentiate at keep away from the kink; the last case has the kernels meet it."""
    shapes = [(2, 3, 4, 5), (7,), (1,), (0, 3), ()] + ([(3, 17, 19, 16)] if large else [])
    random = [_case(f"shape {shape}", np.asarray(rng.standard_normal(shape)), rng) for shape in shapes]
    return [*random, _case("at the kink", np.array([-1.0, -0.0, 0.0, 1.0]), rng)]


def _case(label: str, x: np.ndarray, rng: np.random.Generator) -> Case:
    gy = np.asarray(rng.standard_normal(x.shape))
    return Case(
        label=label,
        calls={"forward": ((x,), {}), "backward": ((gy, forward.definition(x)), {})},
        function=relu,
        inputs=(away_from(x, 0.0),),
    )
