"""Configurations of max_pool2d worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from . import reference
from .op import max_pool2d

#         label                          x              size    stride  padding
GEOMETRIES = [
    ("2x2, as in a U-Net", (2, 4, 6, 3), (2, 2), (2, 2), (0, 0)),
    ("rows and columns left over", (1, 5, 7, 2), (2, 2), (2, 2), (0, 0)),
    ("windows overlap", (2, 5, 6, 2), (3, 3), (1, 1), (0, 0)),
    ("padding", (1, 5, 4, 2), (3, 3), (2, 2), (1, 1)),
    ("padding up to the window", (1, 3, 4, 2), (3, 2), (1, 1), (2, 1)),
    ("not square, strides differ", (1, 7, 8, 1), (3, 2), (2, 3), (0, 1)),
    ("stride over size", (1, 7, 8, 2), (2, 1), (3, 2), (0, 0)),
    ("one pixel", (1, 1, 1, 1), (1, 1), (1, 1), (0, 0)),
    ("no image", (0, 4, 4, 2), (2, 2), (2, 2), (0, 0)),
]

# Too many numbers for a gradient check by differences; compared between tiers only.
LARGE_GEOMETRIES = [
    ("16 channels, a vector", (2, 18, 22, 16), (2, 2), (2, 2), (0, 0)),
    ("37 channels, a tail", (3, 11, 13, 37), (3, 3), (2, 2), (1, 1)),
]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those without a derivative or too large for one only if `large`."""
    found = [_case(rng, *geometry, distinct(rng, geometry[1])) for geometry in GEOMETRIES]
    if large:
        found += [_case(rng, *geometry, distinct(rng, geometry[1])) for geometry in LARGE_GEOMETRIES]
        # Three different values: nearly every window has a tie.
        found += [_case(rng, "ties", *g[1:], rng.integers(-1, 2, g[1]).astype(float)) for g in LARGE_GEOMETRIES]
        found.append(_case(rng, "long rows", (2, 2, 62, 5), (2, 1), (1, 1), (0, 0), one_from_the_other_row()))
    return found


def one_from_the_other_row() -> np.ndarray:
    """Two images of two long rows, the larger numbers all in one row, but for the first."""
    x = np.zeros((2, 2, 62, 5))
    x[0, 1] = x[1, 0] = 1.0
    x[0, 0, 0, 0] = x[1, 1, 0, 0] = 2.0
    return x


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values at least 0.1 apart in random order: no small step of a difference quotient changes which is largest."""
    n = int(np.prod(shape))
    return 0.1 * (rng.permutation(n) - n // 2).reshape(shape)


def _case(rng, label, x_shape, size, stride, padding, x) -> Case:
    geometry = {"size": size, "stride": stride, "padding": padding}
    _, indices = reference.forward.definition(x, **geometry)
    apart = padding == (0, 0) and size[0] <= stride[0] and size[1] <= stride[1]
    return Case(
        label=label,
        calls={
            "forward": ((x,), geometry),
            "scatter": (
                (rng.standard_normal(indices.shape), indices),
                {"size": x_shape[1:3], "cell": stride if apart else None},
            ),
            "gather": ((x, indices), {}),
        },
        function=lambda x: max_pool2d(x, **geometry),
        inputs=(x,),
        terms=size[0] * size[1],
    )
