"""conv3d by its definition: obvious loops, right in any floating-point dtype. The other tiers must agree.

x (N, D, H, W, C_in), w (KD, KH, KW, C_in / groups, C_out), b (C_out,), y (N, OD, OH, OW, C_out). A Geometry has three
numbers for each of its parameters here: (z, y, x). What the letters mean: derivation.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...backends.registry import kernel
from .._shared.geometry import Geometry, Triple, axis_taps, channel_groups


@kernel
def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, geometry: Geometry) -> np.ndarray:
    """y[n, oz, oy, ox, co] = b[co] + sum over kz, ky, kx, ci of x[n, iz, iy, ix, ci] w[kz, ky, kx, ci, co]."""
    size = geometry.output_size(x.shape[1:4], w.shape[:3])
    y = np.zeros((len(x), *size, w.shape[4]), x.dtype)
    for tap, o, i in _taps(x.shape[1:4], w.shape[:3], size, geometry):
        for ci, co in channel_groups(x.shape[4], w.shape[4], geometry.groups):
            y[(slice(None), *o, co)] += x[(slice(None), *i, ci)] @ w[tap][:, co]
    return y if b is None else y + b


@kernel
def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Triple, geometry: Geometry) -> np.ndarray:
    """gx[n, iz, iy, ix, ci] = sum over co and all taps (kz, ky, kx) through which y reads this voxel of gy w."""
    c_in = w.shape[3] * geometry.groups
    gx = np.zeros((len(gy), *input_size, c_in), gy.dtype)
    for tap, o, i in _taps(input_size, w.shape[:3], gy.shape[1:4], geometry):
        for ci, co in channel_groups(c_in, w.shape[4], geometry.groups):
            gx[(slice(None), *i, ci)] += gy[(slice(None), *o, co)] @ w[tap][:, co].T
    return gx


@kernel
def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Triple, geometry: Geometry) -> np.ndarray:
    """gw[kz, ky, kx, ci, co] = sum over n, oz, oy, ox of x[n, iz, iy, ix, ci] gy[n, oz, oy, ox, co]."""
    c_in, c_out = x.shape[4], gy.shape[4]
    gw = np.zeros((*kernel_size, c_in // geometry.groups, c_out), x.dtype)
    for tap, o, i in _taps(x.shape[1:4], kernel_size, gy.shape[1:4], geometry):
        for ci, co in channel_groups(c_in, c_out, geometry.groups):
            gw[(*tap, slice(None), co)] += np.einsum(
                "nzyxi,nzyxo->io", x[(slice(None), *i, ci)], gy[(slice(None), *o, co)]
            )
    return gw


def _taps(size: Triple, kernel: Triple, out: Triple, geometry: Geometry) -> Iterator[tuple]:
    """For each tap (kz, ky, kx): the outputs that use it and the inputs they read, as three slices each."""
    axes = zip(size, kernel, out, geometry.stride, geometry.padding, geometry.dilation)
    depth, rows, columns = (list(axis_taps(*axis)) for axis in axes)
    for kz, oz, iz in depth:
        for ky, oy, iy in rows:
            for kx, ox, ix in columns:
                yield (kz, ky, kx), (oz, oy, ox), (iz, iy, ix)
