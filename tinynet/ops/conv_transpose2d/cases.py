"""Configurations of conv_transpose2d worth checking."""

from __future__ import annotations

import numpy as np

from ...backends.registry import use_backend
from .._shared.case import Case
from .._shared.geometry import Geometry
from .op import conv_transpose2d

#         label                          x               w               stride  padding output_padding dilation groups
GEOMETRIES = [
    ("2x2 stride 2, as in a U-Net", (2, 3, 4, 4), (2, 2, 3, 4), (2, 2), (0, 0), (0, 0), (1, 1), 1),
    ("stride 1", (1, 4, 5, 2), (3, 3, 3, 2), (1, 1), (1, 1), (0, 0), (1, 1), 1),
    ("one pixel, one channel", (1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (0, 0), (1, 1), 1),
    ("3x3 stride 2, exact doubling", (2, 3, 4, 2), (3, 3, 2, 2), (2, 2), (1, 1), (1, 1), (1, 1), 1),
    ("strides differ, not square", (1, 3, 4, 2), (3, 2, 2, 2), (2, 3), (1, 0), (0, 2), (1, 1), 1),
    ("stride over kernel", (1, 3, 3, 2), (2, 1, 3, 2), (3, 2), (0, 0), (1, 0), (1, 1), 1),
    ("dilation", (1, 4, 3, 2), (3, 2, 2, 2), (1, 1), (1, 2), (0, 0), (2, 3), 1),
    ("dilation and stride", (1, 4, 4, 2), (3, 3, 2, 2), (2, 3), (2, 1), (1, 1), (3, 2), 1),
    ("two groups", (2, 3, 4, 4), (3, 3, 3, 4), (2, 2), (1, 1), (0, 1), (1, 1), 2),
    ("depthwise", (1, 3, 3, 3), (3, 3, 1, 3), (2, 1), (1, 1), (0, 0), (1, 1), 3),
    ("no image", (0, 3, 3, 2), (2, 2, 3, 2), (2, 2), (0, 0), (0, 0), (1, 1), 1),
]

# Too many numbers for a gradient check by differences; compared between tiers only.
LARGE_GEOMETRIES = [
    ("32 to 16 channels", (2, 9, 13, 32), (2, 2, 16, 32), (2, 2), (0, 0), (0, 0), (1, 1), 1),
    ("17 to 33 channels, tails", (1, 8, 7, 17), (3, 3, 33, 17), (2, 2), (1, 1), (1, 1), (1, 1), 1),
]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a gradient check only if `large`."""
    return [_case(rng, row) for row in GEOMETRIES + (LARGE_GEOMETRIES if large else [])]


def _case(rng: np.random.Generator, row: tuple) -> Case:
    label, x_shape, w_shape, stride, padding, output_padding, dilation, groups = row
    geometry = Geometry(stride, padding, dilation, groups)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    b = rng.standard_normal(w_shape[2] * groups)
    with use_backend("reference"):  # which compiles nothing
        y = conv_transpose2d(x, w, b, output_padding=output_padding, **geometry._asdict())
    gy = rng.standard_normal(y.shape)
    return Case(
        label=label,
        calls={
            "forward": ((x, w, b), {"output_size": gy.shape[1:3], "geometry": geometry}),
            "backward_input": ((gy, w), {"geometry": geometry}),
            "backward_weight": ((x, gy), {"kernel_size": w_shape[:2], "geometry": geometry}),
            "backward_bias": ((gy,), {}),
        },
        function=lambda x, w, b: conv_transpose2d(x, w, b, output_padding=output_padding, **geometry._asdict()),
        inputs=(x, w, b),
        terms=max(int(np.prod(w_shape[:3])), int(np.prod(gy.shape[:3])), w_shape[0] * w_shape[1] * w_shape[3]),
    )
