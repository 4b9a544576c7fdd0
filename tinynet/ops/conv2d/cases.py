"""Configurations of conv2d worth checking: every parameter, odd sizes, channel counts around the vector width."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .geometry import output_size
from .op import conv2d

#         label                        x               w               stride  padding dilation groups
GEOMETRIES = [
    ("3x3 same, as in a U-Net", (2, 5, 6, 3), (3, 3, 3, 4), (1, 1), (1, 1), (1, 1), 1),
    ("1x1", (2, 4, 3, 5), (1, 1, 5, 1), (1, 1), (0, 0), (1, 1), 1),
    ("one pixel, one channel", (1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ("strides differ, not square", (2, 7, 9, 2), (3, 2, 2, 3), (2, 3), (1, 0), (1, 1), 1),
    ("stride over kernel", (1, 8, 7, 2), (2, 1, 2, 3), (3, 2), (0, 0), (1, 1), 1),
    ("stride over image", (2, 1, 2, 2), (1, 1, 2, 3), (2, 3), (0, 0), (1, 1), 1),
    ("dilation", (1, 9, 8, 2), (3, 2, 2, 3), (1, 1), (2, 1), (2, 3), 1),
    ("dilation and stride", (1, 11, 10, 2), (3, 3, 2, 2), (2, 2), (2, 2), (3, 2), 1),
    ("padding over kernel", (1, 3, 4, 2), (2, 2, 2, 3), (1, 1), (3, 2), (1, 1), 1),
    ("two groups", (2, 5, 4, 4), (3, 3, 2, 6), (1, 1), (1, 1), (1, 1), 2),
    ("depthwise", (1, 6, 5, 3), (3, 3, 1, 3), (2, 1), (1, 1), (1, 1), 3),
    ("1-D: a height of one", (2, 1, 12, 2), (1, 5, 2, 3), (1, 2), (0, 2), (1, 1), 1),
    ("rows left over", (1, 8, 8, 2), (3, 3, 2, 2), (3, 3), (0, 0), (1, 1), 1),
    ("no image", (0, 4, 4, 2), (3, 3, 2, 3), (1, 1), (1, 1), (1, 1), 1),
]

# Too many numbers for a gradient check by differences; compared between tiers only.
LARGE_GEOMETRIES = [
    ("16 channels, a vector", (2, 9, 21, 16), (3, 3, 16, 16), (1, 1), (1, 1), (1, 1), 1),
    ("17 to 33 channels, tails", (2, 7, 19, 17), (3, 3, 17, 33), (1, 1), (1, 1), (1, 1), 1),
    ("40 channels, 7x7, stride 2", (1, 23, 30, 5), (7, 7, 5, 40), (2, 2), (3, 3), (1, 1), 1),
    ("64 channels in 4 groups", (1, 10, 11, 64), (3, 3, 16, 64), (1, 1), (1, 1), (1, 1), 4),
    ("2x2 stride 2, as in an up-convolution", (1, 16, 24, 32), (2, 2, 32, 16), (2, 2), (0, 0), (1, 1), 1),
    ("5x5", (1, 6, 7, 2), (5, 5, 2, 3), (1, 1), (2, 2), (1, 1), 1),
    ("300 channels", (1, 3, 2, 1), (1, 1, 1, 300), (1, 1), (0, 0), (1, 1), 1),
    ("sums over many pixels", (1, 64, 66, 2), (1, 1, 2, 3), (1, 1), (0, 0), (1, 1), 1),
]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a gradient check only if `large`."""
    return [_case(rng, *geometry) for geometry in GEOMETRIES + (LARGE_GEOMETRIES if large else [])]


def _case(rng, label, x_shape, w_shape, stride, padding, dilation, groups) -> Case:
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    b = rng.standard_normal(w_shape[3])
    size = output_size(x_shape[1:3], w_shape[:2], stride, padding, dilation)
    gy = rng.standard_normal((x_shape[0], *size, w_shape[3]))
    return Case(
        label=label,
        calls={
            "forward": ((x, w, b), geometry),
            "backward_input": ((gy, w), {"input_size": x_shape[1:3], **geometry}),
            "backward_weight": ((x, gy), {"kernel_size": w_shape[:2], **geometry}),
            "backward_bias": ((gy,), {}),
        },
        function=lambda x, w, b: conv2d(x, w, b, **geometry),
        inputs=(x, w, b),
        terms=max(int(np.prod(w_shape[:3])), int(np.prod(gy.shape[:3])), w_shape[0] * w_shape[1] * w_shape[3]),
    )
