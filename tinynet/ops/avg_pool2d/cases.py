"""Configurations of avg_pool2d worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from . import reference
from .op import avg_pool2d

#         label                          x              size    stride  padding
GEOMETRIES = [
    ("2x2, as in LeNet", (2, 4, 6, 3), (2, 2), (2, 2), (0, 0)),
    ("rows and columns left over", (1, 5, 7, 2), (2, 2), (2, 2), (0, 0)),
    ("windows overlap", (2, 5, 6, 2), (3, 3), (1, 1), (0, 0)),
    ("padding", (1, 5, 4, 2), (3, 3), (2, 2), (1, 1)),
    ("padding up to the window", (1, 3, 4, 2), (3, 2), (1, 1), (2, 1)),
    ("not square, strides differ", (1, 7, 8, 1), (3, 2), (2, 3), (0, 1)),
    ("stride over size", (1, 7, 8, 2), (2, 1), (3, 2), (0, 0)),
    ("the whole image", (2, 3, 5, 2), (3, 5), (3, 5), (0, 0)),
    ("one pixel", (1, 1, 1, 1), (1, 1), (1, 1), (0, 0)),
    ("no image", (0, 4, 4, 2), (2, 2), (2, 2), (0, 0)),
]

# Too many numbers for a gradient check by differences; compared between tiers only.
LARGE_GEOMETRIES = [
    ("16 channels, a vector", (2, 18, 22, 16), (2, 2), (2, 2), (0, 0)),
    ("37 channels, a tail", (3, 11, 13, 37), (3, 3), (2, 2), (1, 1)),
]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a derivative by differences only if `large`."""
    return [_case(rng, *geometry) for geometry in GEOMETRIES + (LARGE_GEOMETRIES if large else [])]


def _case(rng, label, x_shape, size, stride, padding) -> Case:
    x = rng.standard_normal(x_shape)
    windows = {"size": size, "stride": stride, "padding": padding}
    gy = rng.standard_normal(reference.forward.definition(x, **windows).shape)
    return Case(
        label=label,
        calls={"forward": ((x,), windows), "backward": ((gy,), {"plane": x_shape[1:3], **windows})},
        function=lambda x: avg_pool2d(x, **windows),
        inputs=(x,),
        terms=size[0] * size[1],
    )
