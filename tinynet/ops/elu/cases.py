"""Configurations of ELU worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case, away_from
from .op import elu
from .reference import forward


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases; with alpha other than 1 the values keep away from the kink at 0."""
    shapes = [(2, 3, 4, 5), (7,), (1,), (0, 3), ()] + ([(3, 17, 19, 16)] if large else [])
    return [_case(rng, shape, alpha) for shape in shapes for alpha in (1.0, 0.3)]


def _case(rng: np.random.Generator, shape: tuple[int, ...], alpha: float) -> Case:
    x = away_from(3 * rng.standard_normal(shape), 0.0)
    gy = np.asarray(rng.standard_normal(shape))
    y = forward.definition(x, alpha=alpha)
    return Case(
        label=f"shape {shape}, alpha {alpha}",
        calls={"forward": ((x,), {"alpha": alpha}), "backward": ((gy, y), {"alpha": alpha})},
        function=lambda x: elu(x, alpha=alpha),
        inputs=(x,),
    )
