"""Configurations of conv2d worth checking: every parameter, odd sizes, channel counts around the vector width."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .._shared.epilogue import Epilogue
from .._shared.geometry import Geometry
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
    ("depthwise, a vector and a tail", (2, 9, 13, 19), (3, 3, 1, 19), (1, 1), (1, 1), (1, 1), 19),
    ("depthwise, 5x5, stride 2", (1, 8, 15, 16), (5, 5, 1, 16), (2, 2), (2, 1), (1, 1), 16),
    ("2x2 stride 2, as in an up-convolution", (1, 16, 24, 32), (2, 2, 32, 16), (2, 2), (0, 0), (1, 1), 1),
    ("5x5", (1, 6, 7, 2), (5, 5, 2, 3), (1, 1), (2, 2), (1, 1), 1),
    ("300 channels", (1, 3, 2, 1), (1, 1, 1, 300), (1, 1), (0, 0), (1, 1), 1),
    ("sums over many pixels", (1, 64, 66, 2), (1, 1, 2, 3), (1, 1), (0, 0), (1, 1), 1),
]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a gradient check only if `large`."""
    channels = [(3,), (2, 1), *([(16,), (16, 16), (16, 5), (7, 16), (16, 8, 16)] if large else [])]
    plain = [_case(rng, row) for row in GEOMETRIES + (LARGE_GEOMETRIES if large else [])]
    return plain + [_case_with_epilogue(rng, each) for each in channels]


def _case(rng: np.random.Generator, row: tuple) -> Case:
    label, x_shape, w_shape, stride, padding, dilation, groups = row
    geometry = Geometry(stride, padding, dilation, groups)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    b = rng.standard_normal(w_shape[3])
    size = geometry.output_size(x_shape[1:3], w_shape[:2])
    gy = rng.standard_normal((x_shape[0], *size, w_shape[3]))
    return Case(
        label=label,
        calls={
            "forward": ((x, w, b), {"geometry": geometry}),
            "backward_input": ((gy, w), {"input_size": x_shape[1:3], "geometry": geometry}),
            "backward_weight": ((x, gy), {"kernel_size": w_shape[:2], "geometry": geometry}),
            "backward_bias": ((gy,), {}),
        },
        function=lambda x, w, b: conv2d(x, w, b, **geometry._asdict()),
        inputs=(x, w, b),
        terms=max(int(np.prod(w_shape[:3])), int(np.prod(gy.shape[:3])), w_shape[0] * w_shape[1] * w_shape[3]),
    )


def _case_with_epilogue(rng: np.random.Generator, channels: tuple[int, ...]) -> Case:
    """ELU and dropout follow; the channels of x lie in several arrays."""
    c_in, c_out = sum(channels), 3 if sum(channels) < 16 else 16
    geometry, epilogue = Geometry(padding=(1, 1)), Epilogue(0.7, 0.3, seed=2, stream=3, step=5, first=60 * c_out)
    parts = tuple(rng.standard_normal((2, 5, 6, c)) for c in channels)
    x = parts if len(parts) > 1 else parts[0]
    w, b = rng.standard_normal((3, 3, c_in, c_out)), rng.standard_normal(c_out)
    return Case(
        label=f"ELU and dropout, x in parts of {channels} channels",
        calls={"forward": ((x, w, b), {"geometry": geometry, "epilogue": epilogue})},
        function=lambda *inputs: conv2d(inputs[:-2], *inputs[-2:], padding=1),
        inputs=(*parts, w, b),
        terms=9 * c_in,
    )
