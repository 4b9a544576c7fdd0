"""conv2d by its definition: obvious loops, right in any floating-point dtype. The other tiers must agree.

x (N, H, W, C_in), w (KH, KW, C_in / groups, C_out), b (C_out,), y (N, OH, OW, C_out). What the letters mean
and where the formulas come from: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, Pair, channel_groups
from ..activations.entries import Elu
from ..dropout import reference as dropout


@kernel
def forward(x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
    """y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of x[n, iy, ix, ci] w[ky, kx, ci, co], then the epilogue.

    x: (N, H, W, C_in), or a tuple of arrays whose channels follow each other.
    """
    x = np.concatenate(x, axis=3) if isinstance(x, tuple) else x
    size = geometry.output_size(x.shape[1:3], w.shape[:2])
    y = np.zeros((len(x), *size, w.shape[3]), x.dtype)
    for tap in geometry.taps(x.shape[1:3], w.shape[:2], size):
        for ci, co in channel_groups(x.shape[3], w.shape[3], geometry.groups):
            y[:, tap.oy, tap.ox, co] += x[:, tap.iy, tap.ix, ci] @ w[tap.ky, tap.kx, :, co]
    if b is not None:
        y += b
    return _finished(y, epilogue)


def _finished(y: np.ndarray, epilogue: Epilogue) -> np.ndarray:
    """The epilogue: ELU unless alpha is None, then dropout unless p is 0."""
    y = y if epilogue.alpha is None else Elu.value(y, epilogue.alpha)
    return y if epilogue.p == 0 else dropout.forward.definition(y, **epilogue.mask)


@kernel
def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over co and all (oy, ky), (ox, kx) that read this pixel of gy w."""
    c_in = w.shape[2] * geometry.groups
    gx = np.zeros((len(gy), *input_size, c_in), gy.dtype)
    for tap in geometry.taps(input_size, w.shape[:2], gy.shape[1:3]):
        for ci, co in channel_groups(c_in, w.shape[3], geometry.groups):
            gx[:, tap.iy, tap.ix, ci] += gy[:, tap.oy, tap.ox, co] @ w[tap.ky, tap.kx, :, co].T
    return gx


@kernel
def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
    c_in, c_out = x.shape[3], gy.shape[3]
    i_group, o_group = c_in // geometry.groups, c_out // geometry.groups
    gw = np.zeros((*kernel_size, i_group, c_out), x.dtype)
    for tap in geometry.taps(x.shape[1:3], kernel_size, gy.shape[1:3]):
        for ci, co in channel_groups(c_in, c_out, geometry.groups):
            x_seen = x[:, tap.iy, tap.ix, ci].reshape(-1, i_group)
            gw[tap.ky, tap.kx, :, co] += x_seen.T @ gy[:, tap.oy, tap.ox, co].reshape(-1, o_group)
    return gw


@kernel
def backward_bias(gy: np.ndarray) -> np.ndarray:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    return gy.sum(axis=(0, 1, 2))
