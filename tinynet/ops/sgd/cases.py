"""Configurations of SGD worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases: without and with momentum, both forms of it, with and without weight decay."""
    shapes = [(3, 4), (5,), (), (0, 2), (1, 1)] + ([(300, 301)] if large else [])
    settings = [
        {"lr": 0.05},
        {"lr": 0.05, "weight_decay": 0.3},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "momentum": 0.7, "nesterov": True, "weight_decay": 0.3},
    ]
    return [_case(rng, shapes, parameters) for parameters in settings]


def _case(rng: np.random.Generator, shapes: list[tuple[int, ...]], parameters: dict) -> Case:
    p, v, g = ([np.asarray(rng.standard_normal(shape)) for shape in shapes] for _ in range(3))
    return Case(
        label=f"shapes {shapes}, {parameters}",
        calls={"step": ((p, v if "momentum" in parameters else None, g), parameters)},
        changed={"step": 2},
    )
