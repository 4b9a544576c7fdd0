"""Configurations worth checking: with and without dropout, conv2d's special geometries, several inputs."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .._shared.epilogue import Epilogue
from .._shared.geometry import Geometry
from ..conv2d import reference as conv2d
from .op import conv_elu_dropout

#         label                     x               w               stride  padding dilation groups dropout
GEOMETRIES = [
    ("3x3 same, as in a U-Net", (2, 5, 6, 3), (3, 3, 3, 4), (1, 1), (1, 1), (1, 1), 1, 0.3),
    ("without dropout", (2, 5, 4, 2), (3, 3, 2, 3), (1, 1), (1, 1), (1, 1), 1, 0.0),
    ("stride, one pixel wide", (1, 7, 3, 2), (3, 3, 2, 5), (2, 3), (1, 1), (1, 1), 1, 0.5),
    ("two groups, dilation", (1, 6, 7, 4), (2, 3, 2, 2), (1, 1), (1, 2), (2, 1), 2, 0.1),
    ("no image", (0, 4, 4, 2), (3, 3, 2, 3), (1, 1), (1, 1), (1, 1), 1, 0.2),
]
LARGE_GEOMETRIES = [
    ("16 channels, odd sizes", (2, 9, 21, 16), (3, 3, 16, 16), (1, 1), (1, 1), (1, 1), 1, 0.2),
    ("17 to 33 channels, tails", (2, 7, 19, 17), (3, 3, 17, 33), (1, 1), (1, 1), (1, 1), 1, 0.1),
    ("several bands", (1, 40, 34, 32), (3, 3, 32, 48), (1, 1), (1, 1), (1, 1), 1, 0.3),
]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a gradient check only if `large`."""
    whole = [_case(rng, row) for row in GEOMETRIES + (LARGE_GEOMETRIES if large else [])]
    channels = [(2, 1), *([(16, 16), (16, 5), (7, 16), (16, 8, 16)] if large else [])]
    return whole + [_case_of_parts(rng, each) for each in channels]


def _case(rng: np.random.Generator, row: tuple) -> Case:
    label, x_shape, w_shape, stride, padding, dilation, groups, p = row
    geometry, epilogue = Geometry(stride, padding, dilation, groups), Epilogue(0.7, p, seed=2, stream=3, step=5)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    b = rng.standard_normal(w_shape[3])
    y = conv2d.forward.definition(x, w, b, geometry, epilogue)
    return Case(
        label=label,
        calls={"backward": ((rng.standard_normal(y.shape), y), {"epilogue": epilogue})},
        function=lambda x, w, b: conv_elu_dropout(x, w, b, geometry, epilogue),
        inputs=(x, w, b),
        terms=int(np.prod(w_shape[:3])),
    )


def _case_of_parts(rng: np.random.Generator, channels: tuple[int, ...]) -> Case:
    """The channels of x in several arrays."""
    c_in, c_out = sum(channels), 3 if sum(channels) < 16 else 16
    case = _case(rng, ("", (2, 5, 6, c_in), (3, 3, c_in, c_out), (1, 1), (1, 1), (1, 1), 1, 0.2))
    x, w, b = case.inputs
    parts = np.split(x, np.cumsum(channels)[:-1], axis=3)
    whole = case.function

    def function(*inputs):
        *parts, w, b = inputs
        return whole(parts, w, b)

    return Case(f"x in parts of {channels} channels", case.calls, function, (*parts, w, b), case.terms)
