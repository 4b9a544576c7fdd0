"""Calls at sizes that no net of `bench` has: volumes, depthwise convolutions, images read at points, large matrices.

The volumes are those of `examples/volumes` (48 x 64 x 48), the images those of a MobileNet. All sizes shrink with the
U-Net's, so that tests can make the same calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ops._shared.geometry import Geometry

VOLUME, IMAGE, FULL = (48, 64, 48), (56, 56), 256
#           op        images  input size  channels  kernel  stride  groups
CONVOLUTIONS = [
    ("conv3d", 1, VOLUME, (8, 8), 3, 1, 1),
    ("conv3d", 1, VOLUME, (16, 16), 3, 1, 1),
    ("conv3d", 1, VOLUME, (32, 32), 3, 1, 1),
    ("conv3d", 1, VOLUME, (8, 16), 2, 2, 1),
    ("conv2d", 8, (112, 112), (32, 32), 3, 1, 32),
    ("conv2d", 8, IMAGE, (96, 96), 3, 1, 96),
    ("conv2d", 8, (112, 112), (96, 96), 3, 2, 96),
]
MATRICES = [(128, 784, 256), (512, 512, 512), (1024, 1024, 1024)]  # rows, terms, columns
Shape = tuple[int, ...]
Sized = tuple[str, str, tuple, dict[str, Any]]  # op, kernel, arrays or the shapes of arrays of floats, parameters
SAMPLES = [(1, VOLUME, 1), (1, VOLUME, 3), (4, (128, 128), 3), (4, (128, 128), 16)]  # images, size, channels


def calls_at_sizes(ops: Sequence[str], size: int) -> list[Sized]:
    """The calls of these ops. size: of the U-Net's images, which are 256 x 256 at full size."""
    found = [call for row in CONVOLUTIONS if row[0] in ops for call in _convolution(row, size / FULL)]
    found += [call for row in SAMPLES if "sample" in ops for call in _sample(*row, share=size / FULL)]
    products = [_shrunk(row, size / FULL) for row in MATRICES if "matmul" in ops]
    return found + [("matmul", "forward", ((n, m), (m, k)), {}) for n, m, k in products]


def _convolution(row: tuple, share: float) -> list[Sized]:
    """The three kernels of a convolution with padding (k - 1) // 2."""
    op, images, full, (c_in, c_out), k, s, groups = row
    size, axes = _shrunk(full, share), len(full)
    strides, padding, dilation = ((number,) * axes for number in (s, (k - 1) // 2, 1))
    geometry, taps = Geometry(strides, padding, dilation, groups), (k,) * axes  # type: ignore[arg-type]
    x, w, b = (images, *size, c_in), (*taps, c_in // groups, c_out), (c_out,)
    gy = images, *geometry.output_size(size, taps), c_out
    return [
        (op, "forward", (x, w, b), {"geometry": geometry}),
        (op, "backward_input", (gy, w), {"input_size": size, "geometry": geometry}),
        (op, "backward_weight", (x, gy), {"kernel_size": taps, "geometry": geometry}),
    ]


def _sample(images: int, size: Shape, channels: int, share: float) -> list[Sized]:
    """The three kernels of an image read near each of its pixels."""
    size, rng = _shrunk(size, share), np.random.default_rng(0)
    pixels = np.stack(np.indices(size), axis=-1).reshape(1, -1, len(size))
    points = (pixels + rng.normal(0, 1.5, (images, *pixels.shape[1:]))).astype(np.float32)
    x, gy = (images, *size, channels), (images, points.shape[1], channels)
    return [
        ("sample", "forward", (x, points), {"reach": 1}),
        ("sample", "backward_input", (gy, points), {"size": size, "reach": 1}),
        ("sample", "backward_points", (x, gy, points), {"reach": 1}),
    ]


def _shrunk(size: Shape, share: float) -> Shape:
    return tuple(max(2, round(n * share)) for n in size)
