"""conv_transpose2d on a GPU: conv2d's kernels with their roles exchanged, in the same versions.

x (N, H, W, C_in), w (KH, KW, C_out / groups, C_in), b (C_out,), y (N, OH, OW, C_out). Seen from the convolution
that this is the transpose of, y stands where its input stands and x where its output stands: derivation.md.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .._shared.geometry import Geometry, Pair
from ..conv2d import cuda as conv2d

backward_bias = conv2d.backward_bias


def _forward(version: conv2d.Version, x: Any, w: Any, b: Any, output_size: Pair, geometry: Geometry) -> Any:
    """y[n, oy, ox, co] = b[co] + sum over ci and all (iy, ky), (ix, kx) that reach this pixel of x w."""
    return conv2d.scatter(version.backward_input, x, w, b, output_size, geometry)


def _backward_weight(version: conv2d.Version, x: Any, gy: Any, kernel_size: Pair, geometry: Geometry) -> Any:
    """gw[ky, kx, co, ci] = sum over n, iy, ix of gy[n, oy, ox, co] x[n, iy, ix, ci]."""
    return conv2d.backward_weight(version, gy, x, kernel_size, geometry)


def _backward_input(version: conv2d.Version, gy: Any, w: Any, geometry: Geometry) -> Any:
    """gx[n, iy, ix, ci] = sum over ky, kx, co of gy[n, oy, ox, co] w[ky, kx, co, ci]."""
    return conv2d.forward(version, gy, w, None, geometry)


IMPLEMENTATIONS = {
    name: {
        "forward": partial(_forward, version),
        "backward_input": partial(_backward_input, version),
        "backward_weight": partial(_backward_weight, version),
    }
    for name, version in conv2d.VERSIONS.items()
}
