"""Configurations of batch_norm worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from . import reference
from .op import batch_norm

EPS = 1e-3  # large enough to show where it is forgotten

#         label                          x             constants: mean and var are given
SIZES = [
    ("images", (2, 2, 3, 3), False),
    ("samples", (5, 3), False),
    ("two rows", (2, 5), False),
    ("inference", (2, 3, 2, 3), True),
    ("one sample, inference", (1, 4), True),
]
LARGE_SIZES = [
    ("37 channels", (3, 17, 19, 37), False),
    ("300 channels", (2, 5, 7, 300), False),
    ("many rows", (9000, 3), False),
]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases; channels differ in mean and spread, in the last one the mean is large against the spread."""
    found = [_case(rng, *size) for size in SIZES + (LARGE_SIZES if large else [])]
    return [*found, _case(rng, "far from zero", (9, 2), False, offset=30.0)]


def _case(rng, label, shape, constants, offset=0.0) -> Case:
    channels = shape[-1:]
    spread, center = rng.uniform(0.5, 2.0, channels), rng.standard_normal(channels) + offset
    x = center + spread * rng.standard_normal(shape)
    gamma, beta, gy = rng.uniform(0.5, 1.5, channels), rng.standard_normal(channels), rng.standard_normal(shape)
    mean, var = (center, spread**2) if constants else reference.statistics.definition(x)
    arguments = (mean, var) if constants else ()
    calls = {
        "normalize": ((x, mean, var, gamma, beta, EPS), {}),
        "backward_parameters": ((gy, x, mean, var, EPS), {}),
    }
    if not constants:
        calls["statistics"] = ((x,), {})
        parameters = reference.backward_parameters.definition(gy, x, mean, var, EPS)
        calls["backward_input"] = ((gy, x, mean, var, gamma, parameters, EPS), {})
    return Case(
        label=label,
        calls=calls,
        function=lambda x, gamma, beta: batch_norm(x, gamma, beta, *arguments, eps=EPS),
        inputs=(x, gamma, beta),
        terms=x.size // shape[-1],
    )
