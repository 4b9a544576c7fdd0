"""conv_transpose2d by its definition, which is conv2d's gradient: the same kernels in other roles.

x (N, H, W, C_in), w (KH, KW, C_out / groups, C_in), b (C_out,), y (N, OH, OW, C_out). Seen from the convolution
that this is the transpose of, y stands where its input stands and x where its output stands: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .._shared.geometry import Geometry, Pair
from ..conv2d import reference as conv2d


@kernel
def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, output_size: Pair, geometry: Geometry) -> np.ndarray:
    """y[n, oy, ox, co] = b[co] + sum over ci and all (iy, ky), (ix, kx) that reach this pixel of x w."""
    y = conv2d.backward_input.definition(x, w, output_size, geometry)
    return y if b is None else y + b


@kernel
def backward_input(gy: np.ndarray, w: np.ndarray, geometry: Geometry) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over ky, kx, co of gy[n, oy, ox, co] w[ky, kx, co, ci]."""
    return conv2d.forward.definition(gy, w, None, geometry)


@kernel
def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gw[ky, kx, co, ci] = sum over n, iy, ix of gy[n, oy, ox, co] x[n, iy, ix, ci]."""
    return conv2d.backward_weight.definition(gy, x, kernel_size, geometry)


@kernel
def backward_bias(gy: np.ndarray) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    return conv2d.backward_bias.definition(gy)
