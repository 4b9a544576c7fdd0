"""Configurations of sample worth checking: inside, outside, images and volumes, several points in one cell."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import REACH, sampled
from .reference import forward

#         label                          x                points  padding
SHAPES = [
    ("an image, zeros around it", (2, 2, 3, 1), 2, "zeros"),
    ("an image, its border around it", (1, 2, 2, 2), 2, "border"),
    ("a volume, zeros around it", (1, 2, 1, 2, 1), 3, "zeros"),
    ("no point", (2, 3, 3, 1), 0, "zeros"),
    ("no image", (0, 3, 3, 1), 4, "zeros"),
    ("one pixel", (1, 1, 1, 1), 4, "zeros"),
    ("a volume, its border around it", (1, 2, 3, 2, 2), 6, "border"),
    ("more points than pixels", (1, 2, 2, 1), 20, "zeros"),
]
LARGE_SHAPES = [("37 channels, a tail", (2, 9, 8, 37), 300, "zeros")]  # compared between tiers only


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a derivative by differences only if `large`."""
    return [_case(rng, *row) for row in SHAPES + (LARGE_SHAPES if large else [])]


def _case(rng: np.random.Generator, label: str, shape: tuple, count: int, padding: str) -> Case:
    axes, reach = len(shape) - 2, REACH[padding]
    x = rng.standard_normal(shape)
    # From beyond the image to beyond it; not near the centers of pixels, where the derivative jumps.
    points = rng.uniform(-2.5, np.add(shape[1:-1], 1.5), (shape[0], count, axes))
    points = np.floor(points) + np.clip(points - np.floor(points), 0.05, 0.95)
    gy = rng.standard_normal(forward.definition(x, points, reach).shape)
    return Case(
        label=label,
        calls={
            "forward": ((x, points, reach), {}),
            "backward_input": ((gy, points, shape[1:-1], reach), {}),
            "backward_points": ((x, gy, points, reach), {}),
        },
        function=lambda x, points: sampled("sample", x, points, padding),
        inputs=(x, points),
        terms=max(4 * count, 2**axes * shape[-1]),
    )
