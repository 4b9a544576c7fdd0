"""conv_transpose2d by its definition, which is conv2d's: the same kernels with their roles exchanged.

x (N, H, W, C_in), w (KH, KW, C_out / groups, C_in), b (C_out,), y (N, OH, OW, C_out). Seen from the convolution
that this is the transpose of, y stands where its input stands and x where its output stands: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from ..conv2d import reference as conv2d
from ..conv2d.geometry import Pair


@kernel
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
    y = conv2d.backward_input.definition(x, w, input_size=output_size, **geometry, out=out)
    if b is not None:
        y += b
    return y


@kernel
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
    return conv2d.forward.definition(gy, w, stride=stride, padding=padding, dilation=dilation, groups=groups, out=out)


@kernel
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
    return conv2d.backward_weight.definition(gy, x, kernel_size=kernel_size, **geometry, out=out)


@kernel
def backward_bias(gy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    return conv2d.backward_bias.definition(gy, out=out)
