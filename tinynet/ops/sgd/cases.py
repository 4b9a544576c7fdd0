"""Configurations of SGD worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .settings import Settings


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases: without and with momentum, both forms of it, with and without weight decay."""
    shapes = [(3, 4), (5,), (), (0, 2), (1, 1)] + ([(300, 301)] if large else [])
    settings = [
        Settings(0.05),
        Settings(0.05, weight_decay=0.3),
        Settings(0.05, momentum=0.9),
        Settings(0.05, momentum=0.7, nesterov=True, weight_decay=0.3),
    ]
    return [_case(rng, shapes, s) for s in settings]


def _case(rng: np.random.Generator, shapes: list[tuple[int, ...]], settings: Settings) -> Case:
    p, v, g = ([np.asarray(rng.standard_normal(shape)) for shape in shapes] for _ in range(3))
    return Case(
        label=f"shapes {shapes}, {settings}",
        calls={"step": ((p, v if settings.momentum else None, g), {"settings": settings})},
        changed={"step": 2},
    )
