"""Configurations of local response normalization worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import local_response_norm

ALEXNET = {"size": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}
# alpha is so large that the neighbors count as much as the channel itself; otherwise a wrong derivative would not show.
STRONG = {"size": 5, "k": 2.0, "alpha": 0.5, "beta": 0.75}

#         label                             x               parameters
SIZES = [
    ("strong", (2, 3, 2, 7), STRONG),
    ("another power", (2, 3, 6), {**STRONG, "size": 3, "beta": 0.6, "k": 1.0}),
    ("fewer channels than the window", (2, 2, 3), {**STRONG, "size": 9}),
    ("one channel, alone", (3, 1), {**STRONG, "size": 1}),
    ("beta 1", (4, 5), {**STRONG, "beta": 1.0}),
    ("no image", (0, 2, 2, 4), STRONG),
    ("no channels", (3, 0), STRONG),
]
LARGE_SIZES = [("AlexNet's", (2, 9, 11, 96), ALEXNET), ("37 channels, strong", (3, 7, 5, 37), STRONG)]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a derivative by differences only if `large`."""
    return [_case(rng, *size) for size in SIZES + (LARGE_SIZES if large else [])]


def _case(rng, label, shape, parameters) -> Case:
    x, gy = 2 * rng.standard_normal(shape), rng.standard_normal(shape)
    return Case(
        label=label,
        calls={"forward": ((x,), parameters), "backward": ((gy, x), parameters)},
        function=lambda x: local_response_norm(x, **parameters),
        inputs=(x,),
        terms=parameters["size"],
    )
