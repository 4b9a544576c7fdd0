"""Configurations of leaky ReLU worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case, away_from
from .op import leaky_relu
from .reference import forward


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases. Values to differentiate at keep away from the kink; the last case has the kernels meet it."""
    shapes = [(2, 3, 4, 5), (7,), (1,), (0, 3), ()] + ([(3, 17, 19, 16)] if large else [])
    random = [_case(f"shape {shape}", np.asarray(rng.standard_normal(shape)), 0.1, rng) for shape in shapes]
    return [
        *random,
        _case("slope over 1", rng.standard_normal((3, 4)), 1.5, rng),
        _case("at the kink", np.array([-1.0, -0.0, 0.0, 1.0]), 0.25, rng),
    ]


def _case(label: str, x: np.ndarray, slope: float, rng: np.random.Generator) -> Case:
    gy = np.asarray(rng.standard_normal(x.shape))
    y = forward.definition(x, slope=slope)
    return Case(
        label=f"{label}, slope {slope}",
        calls={"forward": ((x,), {"slope": slope}), "backward": ((gy, y), {"slope": slope})},
        function=lambda x: leaky_relu(x, slope=slope),
        inputs=(away_from(x, 0.0),),
    )
