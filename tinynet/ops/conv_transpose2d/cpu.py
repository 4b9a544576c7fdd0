"""conv_transpose2d in Numba: conv2d's kernels with their roles exchanged, and a shorter way for patches.

x (N, H, W, C_in), w (KH, KW, C_out / groups, C_in), b (C_out,), y (N, OH, OW, C_out). Seen from the convolution
that this is the transpose of, y stands where its input stands and x where its output stands: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ..conv2d import cpu as conv2d
from ..conv2d.geometry import Pair, output_size
from . import patches


def forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    output_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y[n, oy, ox, co] = b[co] + sum over ci and all (iy, ky), (ix, kx) that reach this pixel of x w."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if patches.covers(output_size, x.shape[1:3], w.shape[1] * w.shape[2], x.dtype, w.shape[:2], geometry):
        return patches.forward(x, w, b, out)
    y = conv2d.backward_input(x, w, input_size=output_size, **geometry, out=out)
    if b is not None:
        y += b
    return y


def backward_input(
    gy: np.ndarray,
    w: np.ndarray,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over ky, kx, co of gy[n, oy, ox, co] w[ky, kx, co, ci]."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    input_size = output_size(gy.shape[1:3], w.shape[:2], stride, padding, dilation)
    if patches.covers(gy.shape[1:3], input_size, w.shape[3], gy.dtype, w.shape[:2], geometry):
        return patches.backward_input(gy, w, out)
    return conv2d.forward(gy, w, **geometry, out=out)


def backward_weight(
    x: np.ndarray,
    gy: np.ndarray,
    *,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gw[ky, kx, co, ci] = sum over n, iy, ix of gy[n, oy, ox, co] x[n, iy, ix, ci]."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if patches.covers(gy.shape[1:3], x.shape[1:3], x.shape[3], x.dtype, kernel_size, geometry):
        return patches.backward_weight(x, gy, kernel_size, out)
    return conv2d.backward_weight(gy, x, kernel_size=kernel_size, **geometry, out=out)


def backward_bias(gy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    return conv2d.backward_bias(gy, out=out)
