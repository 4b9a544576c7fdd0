"""Configurations of the sigmoid worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import sigmoid
from .reference import forward


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases; the last of the small ones reaches far into saturation."""
    shapes = [(2, 3, 4, 5), (7,), (1,), (0, 3), ()] + ([(3, 17, 19, 16)] if large else [])
    moderate = [_case(f"shape {shape}", np.asarray(3 * rng.standard_normal(shape)), rng) for shape in shapes]
    return [*moderate, _case("saturated", np.array([-800.0, -90.0, -30.0, 0.0, 30.0, 90.0, 800.0]), rng)]


def _case(label: str, x: np.ndarray, rng: np.random.Generator) -> Case:
    gy = np.asarray(rng.standard_normal(x.shape))
    return Case(
        label=label,
        calls={"forward": ((x,), {}), "backward": ((gy, forward.definition(x)), {})},
        function=sigmoid,
        inputs=(x,),
    )
