"""Configurations of Adam worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases. eps is large enough to matter: a misplaced 1e-8 would not be seen."""
    shapes = [(3, 4), (5,), (), (0, 2), (1, 1)] + ([(300, 301)] if large else [])
    settings = [
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 0.1, "t": 1},
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 0.1, "t": 7, "weight_decay": 0.3},
        {"lr": 0.05, "betas": (0.0, 0.5), "eps": 1e-3, "t": 1000, "shrink": 0.2},
    ]
    return [_case(rng, shapes, parameters) for parameters in settings]


def _case(rng: np.random.Generator, shapes: list[tuple[int, ...]], parameters: dict) -> Case:
    p, m, g = ([np.asarray(rng.standard_normal(shape)) for shape in shapes] for _ in range(3))
    v = [np.asarray(rng.random(shape)) for shape in shapes]
    return Case(
        label=f"shapes {shapes}, {parameters}",
        calls={"step": ((p, m, v, g), parameters)},
        changed={"step": 3},
    )
