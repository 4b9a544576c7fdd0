"""conv_transpose2d on a GPU: conv2d's kernels in other roles, in the same versions.

    blocked   the default: products of matrices, up to 64 results in the registers of a thread
    tiled     tiles in shared memory, four results for each thread
    naive     one thread for each result, straight from the formula
    tf32      as blocked, on tensor cores: factors rounded to 10 bits of mantissa, compute capability 8.0 and later

x (N, H, W, C_in), w (KH, KW, C_out / groups, C_in), b (C_out,), y (N, OH, OW, C_out). This is the transpose
of a convolution whose input has the shape of y and whose output has the shape of x: derivation.md.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .._shared.geometry import Geometry, Pair
from ..conv2d import cuda as conv2d

backward_bias = conv2d.backward_bias


def _forward(version: str, x: Any, w: Any, b: Any, output_size: Pair, geometry: Geometry) -> Any:
    """y[n, oy, ox, co] = b[co] + sum over ci and all (iy, ky), (ix, kx) that reach this pixel of x w."""
    return conv2d.scatter(version, x, w, b, output_size, geometry)


def _backward_weight(version: str, x: Any, gy: Any, kernel_size: Pair, geometry: Geometry) -> Any:
    """gw[ky, kx, co, ci] = sum over n, iy, ix of gy[n, oy, ox, co] x[n, iy, ix, ci]."""
    return conv2d.backward_weight(version, gy, x, kernel_size, geometry)


def _backward_input(version: str, gy: Any, w: Any, geometry: Geometry) -> Any:
    """gx[n, iy, ix, ci] = sum over ky, kx, co of gy[n, oy, ox, co] w[ky, kx, co, ci]."""
    return conv2d.forward(version, gy, w, None, geometry)


IMPLEMENTATIONS = {
    version: {
        "forward": partial(_forward, version),
        "backward_input": partial(_backward_input, version),
        "backward_weight": partial(_backward_weight, version),
    }
    for version in conv2d.VERSIONS
}
