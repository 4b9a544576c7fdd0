"""Configurations of max_unpool2d worth checking: the indices of max-pooling, and arbitrary ones."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .._shared.pooling import LARGE_WINDOWS, WINDOWS
from ..max_pool2d import reference as max_pool2d
from .op import max_unpool2d


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a gradient check only if `large`."""
    found = [_case(rng, "all to one pixel", np.full((1, 2, 3, 2), 4, np.int32), (3, 2))]
    for label, x_shape, kernel_size, geometry in WINDOWS + (LARGE_WINDOWS if large else []):
        _, indices = max_pool2d.forward.definition(rng.standard_normal(x_shape), kernel_size, geometry)
        found.append(_case(rng, label, indices, x_shape[1:3]))
    return found


def _case(rng, label, indices, size) -> Case:
    y = rng.standard_normal(indices.shape)
    gx = rng.standard_normal((indices.shape[0], *size, indices.shape[3]))
    return Case(
        label=label,
        calls={"forward": ((y, indices), {"size": size}), "backward": ((gx, indices), {})},
        function=lambda y: max_unpool2d(y, indices, size),
        inputs=(y,),
        terms=max(1, y[:1, :, :, :1].size),
    )
