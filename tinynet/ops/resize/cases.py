"""Configurations of resize worth checking: larger, smaller, by whole and broken factors, one element."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import resize2d, resize3d
from .reference import forward

#         label                          x             size    mode
SIZES = [
    ("twice the size", (2, 3, 4, 2), (6, 8), "linear"),
    ("half the size", (1, 6, 4, 2), (3, 2), "linear"),
    ("broken factors", (1, 5, 7, 1), (7, 3), "linear"),
    ("nearest, larger", (2, 3, 2, 2), (7, 4), "nearest"),
    ("nearest, smaller", (1, 7, 5, 1), (3, 2), "nearest"),
    ("from one pixel", (1, 1, 1, 3), (3, 2), "linear"),
    ("to one pixel", (1, 4, 3, 1), (1, 1), "linear"),
    ("a volume", (1, 2, 3, 2, 2), (3, 2, 5), "linear"),
    ("no image", (0, 2, 3, 1), (4, 4), "linear"),
]
LARGE_SIZES = [("37 channels, a tail", (2, 9, 8, 37), (21, 15), "linear")]  # compared between tiers only


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a derivative by differences only if `large`."""
    return [_case(rng, *row) for row in SIZES + (LARGE_SIZES if large else [])]


def _case(rng: np.random.Generator, label: str, shape: tuple, size: tuple, mode: str) -> Case:
    x = rng.standard_normal(shape)
    rows = x.reshape(shape[0], shape[1], int(np.prod(shape[2:])))
    gy = rng.standard_normal(forward.definition(rows, size[0], mode).shape)
    return Case(
        label=label,
        calls={"forward": ((rows, size[0], mode), {}), "backward": ((gy, shape[1], mode), {})},
        function=lambda x: (resize2d if x.ndim == 4 else resize3d)(x, size, mode),
        inputs=(x,),
        terms=2 * max(1, size[0] // shape[1]),
    )
