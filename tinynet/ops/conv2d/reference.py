"""conv2d by its definition: obvious loops, right in any floating-point dtype. The other tiers must agree.

x (N, H, W, C_in), w (KH, KW, C_in / groups, C_out), b (C_out,), y (N, OH, OW, C_out). What the letters mean
and where the formulas come from: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .geometry import Pair, Taps, output_size


@kernel
def forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of x[n, iy, ix, ci] w[ky, kx, ci, co]."""
    size = output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)
    y = _zeros((len(x), *size, w.shape[3]), x.dtype, out)
    for tap in Taps(x.shape[1:3], w.shape[:2], size, stride, padding, dilation):
        for ci, co in _channel_groups(x.shape[3], w.shape[3], groups):
            y[:, tap.oy, tap.ox, co] += x[:, tap.iy, tap.ix, ci] @ w[tap.ky, tap.kx, :, co]
    if b is not None:
        y += b
    return y


@kernel
def backward_input(
    gy: np.ndarray,
    w: np.ndarray,
    *,
    input_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over co and all (oy, ky), (ox, kx) that read this pixel of gy w."""
    c_in = w.shape[2] * groups
    gx = _zeros((len(gy), *input_size, c_in), gy.dtype, out)
    for tap in Taps(input_size, w.shape[:2], gy.shape[1:3], stride, padding, dilation):
        for ci, co in _channel_groups(c_in, w.shape[3], groups):
            gx[:, tap.iy, tap.ix, ci] += gy[:, tap.oy, tap.ox, co] @ w[tap.ky, tap.kx, :, co].T
    return gx


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
    """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
    c_in, c_out = x.shape[3], gy.shape[3]
    gw = _zeros((*kernel_size, c_in // groups, c_out), x.dtype, out)
    for tap in Taps(x.shape[1:3], kernel_size, gy.shape[1:3], stride, padding, dilation):
        for ci, co in _channel_groups(c_in, c_out, groups):
            x_seen = x[:, tap.iy, tap.ix, ci].reshape(-1, c_in // groups)
            gw[tap.ky, tap.kx, :, co] += x_seen.T @ gy[:, tap.oy, tap.ox, co].reshape(-1, c_out // groups)
    return gw


@kernel
def backward_bias(gy: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    gb = _zeros((gy.shape[3],), gy.dtype, out)
    gb += gy.sum(axis=(0, 1, 2))
    return gb


def _zeros(shape: tuple[int, ...], dtype: np.dtype, out: np.ndarray | None) -> np.ndarray:
    """Zeros to add to: a new array, or `out` cleared."""
    if out is None:
        return np.zeros(shape, dtype)
    out[...] = 0
    return out


def _channel_groups(c_in: int, c_out: int, groups: int) -> list[tuple[slice, slice]]:
    """The input and output channels of each group, as slices."""
    i, o = c_in // groups, c_out // groups
    return [(slice(g * i, (g + 1) * i), slice(g * o, (g + 1) * o)) for g in range(groups)]
