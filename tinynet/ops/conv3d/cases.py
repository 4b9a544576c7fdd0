"""Configurations of conv3d worth checking: every parameter, odd sizes, and channel counts that Winograd takes."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .._shared.geometry import Geometry
from .op import conv3d

#         label                       x                   w                   geometry
GEOMETRIES = [
    ("3x3x3 same, as in a 3-D U-Net", (2, 2, 3, 2, 1), (3, 3, 3, 1, 2), Geometry((1,) * 3, (1,) * 3, (1,) * 3)),
    ("2x2x2 stride 2, as in V-Net", (1, 2, 4, 2, 2), (2, 2, 2, 2, 1), Geometry((2,) * 3, (0,) * 3, (1,) * 3)),
    ("one voxel, one channel", (1, 1, 1, 1, 1), (1, 1, 1, 1, 1), Geometry((1,) * 3, (0,) * 3, (1,) * 3)),
    ("strides differ", (1, 3, 4, 4, 1), (3, 2, 1, 1, 2), Geometry((1, 2, 3), (1, 0, 0), (1,) * 3)),
    ("depth stride over kernel", (1, 5, 2, 2, 1), (2, 1, 2, 1, 2), Geometry((3, 1, 1), (0,) * 3, (1,) * 3)),
    ("dilation", (1, 4, 3, 2, 1), (2, 2, 2, 1, 1), Geometry((1,) * 3, (2, 0, 1), (3, 2, 1))),
    ("depth padding over kernel", (1, 1, 3, 2, 2), (2, 2, 1, 2, 2), Geometry((1,) * 3, (3, 0, 0), (1,) * 3)),
    ("two groups", (1, 3, 2, 3, 4), (2, 3, 2, 2, 2), Geometry((1,) * 3, (1,) * 3, (1,) * 3, 2)),
    ("no volume", (0, 2, 2, 2, 2), (1, 2, 2, 2, 3), Geometry((1,) * 3, (0,) * 3, (1,) * 3)),
]

# Too many numbers for a gradient check by differences; compared between tiers only.
LARGE_GEOMETRIES = [
    ("16 channels, a vector", (2, 3, 5, 7, 16), (3, 3, 3, 16, 16), Geometry((1,) * 3, (1,) * 3, (1,) * 3)),
    ("8 channels, two voxels in a vector", (2, 3, 4, 7, 8), (3, 2, 3, 8, 8), Geometry((1, 2, 1), (1, 0, 1), (1,) * 3)),
    ("17 to 33 channels, tails", (1, 3, 4, 6, 17), (3, 3, 3, 17, 33), Geometry((1,) * 3, (1,) * 3, (1,) * 3)),
]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases, with values drawn from `rng`; those too large for a gradient check only if `large`."""
    return [_case(rng, *row) for row in GEOMETRIES + (LARGE_GEOMETRIES if large else [])]


def _case(rng: np.random.Generator, label: str, x_shape: tuple, w_shape: tuple, geometry: Geometry) -> Case:
    x, w, b = rng.standard_normal(x_shape), rng.standard_normal(w_shape), rng.standard_normal(w_shape[4])
    gy = rng.standard_normal((len(x), *geometry.output_size(x_shape[1:4], w_shape[:3]), w_shape[4]))
    return Case(
        label=label,
        calls={
            "forward": ((x, w, b), {"geometry": geometry}),
            "backward_input": ((gy, w), {"input_size": x_shape[1:4], "geometry": geometry}),
            "backward_weight": ((x, gy), {"kernel_size": w_shape[:3], "geometry": geometry}),
        },
        function=lambda x, w, b: conv3d(x, w, b, **geometry._asdict()),
        inputs=(x, w, b),
        terms=max(int(np.prod(w_shape[:4])), int(np.prod(gy.shape[:4])), int(np.prod(w_shape[:3])) * w_shape[4]),
    )
