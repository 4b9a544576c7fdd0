"""Configurations of max_unpool2d worth checking: the indices of max-pooling, and arbitrary ones."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from ..max_pool2d import reference as max_pool2d
from .op import max_unpool2d

#         label                     x              pooling size and stride
POOLINGS = [
    ("2x2", (2, 4, 6, 3), (2, 2), (2, 2)),
    ("pixels left over", (1, 5, 7, 2), (2, 2), (2, 2)),
    ("windows overlap", (1, 5, 6, 2), (3, 3), (1, 2)),
    ("one pixel", (1, 1, 1, 1), (1, 1), (1, 1)),
    ("no image", (0, 4, 4, 2), (2, 2), (2, 2)),
]
LARGE_POOLINGS = [("33 channels", (3, 14, 18, 33), (2, 2), (2, 2))]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a gradient check only if `large`."""
    found = [_case(rng, "all to one pixel", np.full((1, 2, 3, 2), 4, np.int32), (3, 2))]
    for label, x_shape, size, stride in POOLINGS + (LARGE_POOLINGS if large else []):
        _, indices = max_pool2d.forward.definition(rng.standard_normal(x_shape), size=size, stride=stride)
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
