"""conv_transpose2d in Numba: conv2d's kernels with their roles exchanged, and a shorter way for patches.

x (N, H, W, C_in), w (KH, KW, C_out / groups, C_in), b (C_out,), y (N, OH, OW, C_out). Seen from the convolution
that this is the transpose of, y stands where its input stands and x where its output stands: derivation.md.
"""

from __future__ import annotations

import numpy as np

from .._shared.geometry import Geometry, Pair
from ..conv2d import cpu as conv2d
from . import patches


def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, output_size: Pair, geometry: Geometry) -> np.ndarray:
    """y[n, oy, ox, co] = b[co] + sum over ci and all (iy, ky), (ix, kx) that reach this pixel of x w."""
    if patches.covers(output_size, x.shape[1:3], w.shape[1] * w.shape[2], x.dtype, geometry, w.shape[:2]):
        return patches.forward(x, w, b)
    y = conv2d.backward_input(x, w, output_size, geometry)
    if b is not None:
        y += b
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, geometry: Geometry) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over ky, kx, co of gy[n, oy, ox, co] w[ky, kx, co, ci]."""
    input_size = geometry.output_size(gy.shape[1:3], w.shape[:2])
    if patches.covers(gy.shape[1:3], input_size, w.shape[3], gy.dtype, geometry, w.shape[:2]):
        return patches.backward_input(gy, w)
    return conv2d.forward(gy, w, None, geometry)


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gw[ky, kx, co, ci] = sum over n, iy, ix of gy[n, oy, ox, co] x[n, iy, ix, ci]."""
    if patches.covers(gy.shape[1:3], x.shape[1:3], x.shape[3], x.dtype, geometry, kernel_size):
        return patches.backward_weight(x, gy, kernel_size)
    return conv2d.backward_weight(gy, x, kernel_size, geometry)


def backward_bias(gy: np.ndarray) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    return conv2d.backward_bias(gy)
