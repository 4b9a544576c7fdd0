"""conv3d in Numba: which version runs for which convolution.

    winograd4    3x3 taps in each slice, of stride 1: Winograd's transforms, once for each slice
    blocked      one group, not 1x1x1: a matrix product for each row of a kernel; several voxels may share a vector
    joined       the slices that meet in one slice of the result as channels of one conv2d, which has a version for 1x1
    slices       a conv2d for each depth tap

`winograd4` is a file of its own, `blocked` is conv2d's; `joined` and `slices`, in versions.py, also run on a GPU.
TABLE decides which one runs: the first row whose condition holds, from the version on that is asked for. The default
begins at `winograd4`; `use_kernels("conv3d", "blocked")` begins at another row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...backends.numba.simd import lanes_of
from .._shared.geometry import Geometry, Triple
from ..conv2d import blocked
from ..conv2d import cpu as conv2d
from . import winograd
from .versions import Kernels, implementations


class Convolution(NamedTuple):
    """What the choice of a version depends on. w_shape: (KD, KH, KW, C_in / groups, C_out)."""

    w_shape: tuple[int, ...]
    geometry: Geometry
    dtype: np.dtype


class Rule(NamedTuple):
    """A row of the table: a version, the condition under which it runs, and its kernels."""

    version: str
    applies: Callable[[Convolution], bool]
    kernels: Kernels


def _is_plain_3x3(c: Convolution) -> bool:
    """True for float32, 3x3 taps in each slice, stride and dilation 1, one group, at least a vector of channels."""
    stride, _, dilation, groups = c.geometry
    is_plain = c.w_shape[1:3] == (3, 3) and stride == dilation == (1, 1, 1) and groups == 1
    return is_plain and c.dtype == np.float32 and min(c.w_shape[3:]) >= lanes_of(c.dtype)


_BLOCKED = {f.__name__: f for f in (blocked.forward, blocked.backward_input, blocked.backward_weight)}
_BY_SLICES = implementations(conv2d.IMPLEMENTATIONS[conv2d.DEFAULT])
TABLE = [
    Rule("winograd4", _is_plain_3x3, winograd.KERNELS),
    Rule("blocked", lambda c: c.geometry.groups == 1 and c.w_shape[:3] != (1, 1, 1), _BLOCKED),
    *(Rule(name, lambda c: True, kernels) for name, kernels in _BY_SLICES.items()),
]


def choose(convolution: Convolution, wanted: str = TABLE[0].version) -> Rule:
    """The row whose kernels run."""
    rows = TABLE[[rule.version for rule in TABLE].index(wanted) :]
    return next(rule for rule in rows if rule.applies(convolution))


def version_of(kernel: str, arguments: dict[str, Any], wanted: str = TABLE[0].version) -> str:
    """The version that a call of a kernel runs if `wanted` is asked for. arguments: by their names in reference.py."""
    geometry, w, gy = (arguments.get(name) for name in ("geometry", "w", "gy"))
    if w is None:  # backward_weight
        w_shape, dtype = (*arguments["kernel_size"], arguments["x"].shape[4] // geometry.groups, gy.shape[4]), gy.dtype
    else:
        w_shape, dtype = w.shape, w.dtype
    return choose(Convolution(w_shape, geometry, dtype), wanted).version


def _kernels(wanted: str) -> Kernels:
    """The three kernels, each of which chooses its version."""

    def forward(x: np.ndarray, w: np.ndarray, b: Any, geometry: Geometry) -> np.ndarray:
        return choose(Convolution(w.shape, geometry, x.dtype), wanted).kernels["forward"](x, w, b, geometry)

    def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Triple, geometry: Geometry) -> np.ndarray:
        rule = choose(Convolution(w.shape, geometry, gy.dtype), wanted)
        return rule.kernels["backward_input"](gy, w, input_size, geometry)

    def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Triple, geometry: Geometry) -> np.ndarray:
        w_shape = *kernel_size, x.shape[4] // geometry.groups, gy.shape[4]
        rule = choose(Convolution(w_shape, geometry, x.dtype), wanted)
        return rule.kernels["backward_weight"](x, gy, kernel_size, geometry)

    return {f.__name__: f for f in (forward, backward_input, backward_weight)}


IMPLEMENTATIONS = {rule.version: _kernels(rule.version) for rule in TABLE}
