"""Configurations of Adam worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .settings import Settings


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases. eps is large enough to matter: no comparison would notice a misplaced 1e-8."""
    shapes = [(3, 4), (5,), (), (0, 2), (1, 1)] + ([(300, 301)] if large else [])
    steps = [
        (1, Settings(0.05, (0.8, 0.95), eps=0.1)),
        (7, Settings(0.05, (0.8, 0.95), eps=0.1, weight_decay=0.3)),
        (1000, Settings(0.05, (0.0, 0.5), eps=1e-3, decoupled_weight_decay=4.0)),
    ]
    return [_case(rng, shapes, t, settings) for t, settings in steps]


def _case(rng: np.random.Generator, shapes: list[tuple[int, ...]], t: int, settings: Settings) -> Case:
    p, m, g = ([np.asarray(rng.standard_normal(shape)) for shape in shapes] for _ in range(3))
    v = [np.asarray(rng.random(shape)) for shape in shapes]
    return Case(
        label=f"shapes {shapes}, t {t}, {settings}",
        calls={"step": ((p, m, v, g), {"t": t, "settings": settings})},
        changed={"step": 3},
    )
