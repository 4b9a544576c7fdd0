"""conv3d in Numba: which version runs for which convolution.

    winograd2    3x3 taps in each slice, of stride 1: Winograd's transforms, once for each slice
    joined       any convolution: the slices that meet in one slice of the result as channels of one conv2d
    slices       any convolution: a conv2d for each depth tap

Each version is a file of its own (`joined` and `slices` share versions.py with the GPU). The default is the first one
that can compute a convolution; `use_kernels("conv3d", "slices")` asks for another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...backends.numba.simd import lanes_of
from .._shared.geometry import Geometry
from ..conv2d import cpu as conv2d
from . import winograd
from .versions import Kernels, implementations


def is_plain_3x3(w_shape: tuple[int, ...], geometry: Geometry, dtype: np.dtype) -> bool:
    """True for float32, 3x3 taps in each slice, stride and dilation 1, one group, at least a vector of channels."""
    stride, _, dilation, groups = geometry
    is_plain = w_shape[1:3] == (3, 3) and stride == dilation == (1, 1, 1) and groups == 1
    return is_plain and dtype == np.float32 and min(w_shape[3:]) >= lanes_of(dtype)


def _with_winograd(others: Kernels) -> Kernels:
    """The kernels of `winograd2`, and the others where it does not apply."""

    def kernels(w_shape: tuple[int, ...], geometry: Geometry, dtype: np.dtype) -> dict[str, Callable]:
        return vars(winograd) if is_plain_3x3(w_shape, geometry, dtype) else others

    def forward(x: np.ndarray, w: np.ndarray, b: Any, geometry: Geometry) -> np.ndarray:
        return kernels(w.shape, geometry, x.dtype)["forward"](x, w, b, geometry)

    def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Any, geometry: Geometry) -> np.ndarray:
        return kernels(w.shape, geometry, gy.dtype)["backward_input"](gy, w, input_size, geometry)

    def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Any, geometry: Geometry) -> np.ndarray:
        w_shape = *kernel_size, x.shape[4] // geometry.groups, gy.shape[4]
        return kernels(w_shape, geometry, x.dtype)["backward_weight"](x, gy, kernel_size, geometry)

    return {f.__name__: f for f in (forward, backward_input, backward_weight)}


_BY_SLICES = implementations(conv2d.IMPLEMENTATIONS[conv2d.DEFAULT])
IMPLEMENTATIONS = {"winograd2": _with_winograd(_BY_SLICES["joined"]), **_BY_SLICES}
