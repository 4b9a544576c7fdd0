"""Configurations of avg_pool2d worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .._shared.pooling import LARGE_WINDOWS, WINDOWS
from . import reference
from .op import avg_pool2d


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a derivative by differences only if `large`."""
    return [_case(rng, *windows) for windows in WINDOWS + (LARGE_WINDOWS if large else [])]


def _case(rng, label, x_shape, kernel_size, geometry) -> Case:
    x = rng.standard_normal(x_shape)
    gy = rng.standard_normal(reference.forward.definition(x, kernel_size, geometry).shape)
    return Case(
        label=label,
        calls={
            "forward": ((x, kernel_size, geometry), {}),
            "backward": ((gy, x_shape[1:3], kernel_size, geometry), {}),
        },
        function=lambda x: avg_pool2d(x, kernel_size, geometry.stride, geometry.padding),
        inputs=(x,),
        terms=kernel_size[0] * kernel_size[1],
    )
