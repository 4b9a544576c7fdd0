"""Configurations of max_pool2d worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .._shared.geometry import Geometry
from .._shared.pooling import LARGE_WINDOWS, WINDOWS
from . import reference
from .op import cell_of, max_pool2d


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those without a derivative or too large for one only if `large`."""
    found = [_case(rng, *windows, distinct(rng, windows[1])) for windows in WINDOWS]
    if large:
        found += [_case(rng, *windows, distinct(rng, windows[1])) for windows in LARGE_WINDOWS]
        # With three different values, nearly every window has a tie.
        found += [_case(rng, "ties", *w[1:], rng.integers(-1, 2, w[1]).astype(float)) for w in LARGE_WINDOWS]
        found.append(_case(rng, "long rows", (2, 2, 62, 5), (2, 1), Geometry(), one_from_the_other_row()))
    return found


def one_from_the_other_row() -> np.ndarray:
    """Two images of two long rows; the larger values are all in one row, except the first."""
    x = np.zeros((2, 2, 62, 5))
    x[0, 1] = x[1, 0] = 1.0
    x[0, 0, 0, 0] = x[1, 1, 0, 0] = 2.0
    return x


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values at least 0.1 apart in random order: no small step of a difference quotient changes which is largest."""
    n = int(np.prod(shape))
    return 0.1 * (rng.permutation(n) - n // 2).reshape(shape)


def _case(rng, label, x_shape, kernel_size, geometry, x) -> Case:
    _, indices = reference.forward.definition(x, kernel_size, geometry)
    gy, size, cell = rng.standard_normal(indices.shape), x_shape[1:3], cell_of(kernel_size, geometry)
    return Case(
        label=label,
        calls={
            "forward": ((x, kernel_size, geometry), {}),
            "scatter": ((gy, indices), {"size": size, "cell": cell}),
            "gather": ((x, indices), {}),
        },
        function=lambda x: max_pool2d(x, kernel_size, geometry.stride, geometry.padding),
        inputs=(x,),
        terms=kernel_size[0] * kernel_size[1],
    )
