"""conv2d in Numba: which version runs for which convolution.

    naive      the loops of the definition
    winograd4  3x3 kernels: Winograd's F(4x4, 3x3)
    winograd2  3x3 kernels: Winograd's F(2x2, 3x3)
    pointwise  1x1 kernels with few output channels
    depthwise  every channel is a group of its own
    blocked    any convolution, as matrix products

Each version is a file of its own (`winograd4` and `winograd2` share one) and calls no other version. TABLE decides
which one runs. The default begins at `winograd4`; `use_kernels("conv2d", "blocked")` begins at another row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...backends.numba.simd import lanes_of
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Geometry, Pair
from . import blocked, depthwise, naive, pointwise, winograd
from .bias import backward_bias

__all__ = ["IMPLEMENTATIONS", "backward_bias", "choose", "explain", "version_of"]

DEFAULT = "winograd4"


class Convolution(NamedTuple):
    """What the choice of a version depends on."""

    kernel_size: Pair
    c_in: int
    c_out: int
    geometry: Geometry
    dtype: np.dtype


class Rule(NamedTuple):
    """A row of the table: a version, the condition under which it runs in words and in code, and why it is the best."""

    version: str
    kernels: Any  # forward, backward_input, backward_weight
    condition: str
    applies: Callable[[Convolution], bool]
    reason: str


def _is_plain_3x3(c: Convolution) -> bool:
    stride, _, dilation, groups = c.geometry
    is_plain = c.kernel_size == (3, 3) and stride == dilation == (1, 1) and groups == 1
    return is_plain and c.dtype == np.float32 and min(c.c_in, c.c_out) >= lanes_of(c.dtype)


def _is_pointwise(c: Convolution) -> bool:
    stride, padding, _, groups = c.geometry
    return c.kernel_size == stride == (1, 1) and padding == (0, 0) and groups == 1 and c.c_out <= pointwise.FEW


def _is_depthwise(c: Convolution) -> bool:
    """Each kernel size and stride is compiled for itself, so only the usual ones are taken."""
    stride, _, dilation, groups = c.geometry
    is_usual = c.kernel_size in ((3, 3), (5, 5)) and stride in ((1, 1), (2, 2)) and dilation == (1, 1)
    return groups == c.c_in == c.c_out >= lanes_of(c.dtype) and is_usual


PLAIN_3X3 = f"float32, 3x3, stride and dilation 1, one group, at least {lanes_of(np.float32)} channels on both sides"
TABLE = [
    Rule("naive", naive, "any convolution", lambda c: True, "the definition, for comparison"),
    Rule("winograd4", winograd.winograd4, PLAIN_3X3, _is_plain_3x3, "4 times fewer multiplications"),
    Rule("winograd2", winograd.winograd2, PLAIN_3X3, _is_plain_3x3, "2.25 times fewer multiplications"),
    Rule(
        "pointwise",
        pointwise,
        f"1x1, stride 1, no padding, one group, at most {pointwise.FEW} output channels",
        _is_pointwise,
        "output channels would leave most lanes of a vector empty: the lanes are the input channels",
    ),
    Rule(
        "depthwise",
        depthwise,
        "as many groups as channels on both sides, at least a vector of them; 3x3 or 5x5, stride 1 or 2, dilation 1",
        _is_depthwise,
        "there is no sum over channels, so the lanes are the channels",
    ),
    Rule("blocked", blocked, "any convolution", lambda c: True, "a matrix product for each row of a kernel"),
]
VERSIONS = {rule.version: rule.kernels for rule in TABLE}


def choose(convolution: Convolution, wanted: str = DEFAULT) -> str:
    """The version that runs: from the row of the wanted one on, the first in the table whose condition holds."""
    return _rule(convolution, wanted).version


def explain(convolution: Convolution, wanted: str = DEFAULT) -> str:
    """The choice as a sentence: the version, the condition that holds, and the reason."""
    rule = _rule(convolution, wanted)
    return f"{rule.version} runs, for {rule.condition}: {rule.reason}."


def version_of(kernel: str, arguments: dict[str, Any], wanted: str = DEFAULT) -> str:
    """The version that a call of a kernel runs if `wanted` is asked for. arguments: by their names in reference.py."""
    geometry, w, gy = (arguments.get(name) for name in ("geometry", "w", "gy"))
    if w is None:  # backward_weight
        w_shape, dtype = (*arguments["kernel_size"], arguments["x"].shape[3] // geometry.groups, gy.shape[3]), gy.dtype
    else:
        w_shape, dtype = w.shape, w.dtype
    return choose(Convolution(w_shape[:2], w_shape[2] * geometry.groups, w_shape[3], geometry, dtype), wanted)


def _rule(convolution: Convolution, wanted: str) -> Rule:
    rows = TABLE[list(VERSIONS).index(wanted) :]
    return next(rule for rule in rows if rule.applies(convolution))


def _kernels(wanted: str) -> dict[str, Callable]:
    """The three kernels, each of which chooses its version."""

    def chosen(w_shape: tuple[int, ...], geometry: Geometry, dtype: np.dtype) -> Any:
        c_in, c_out = w_shape[2] * geometry.groups, w_shape[3]
        return VERSIONS[choose(Convolution(w_shape[:2], c_in, c_out, geometry, dtype), wanted)]

    def forward(x: Any, w: np.ndarray, b: Any, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
        """y = epilogue(x * w + b). x: an array, or a tuple of arrays whose channels follow each other."""
        return chosen(w.shape, geometry, w.dtype).forward(x, w, b, geometry, epilogue)

    def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Pair, geometry: Geometry) -> np.ndarray:
        """The gradient with respect to x, (N, *input_size, C_in)."""
        return chosen(w.shape, geometry, w.dtype).backward_input(gy, w, input_size, geometry)

    def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
        """The gradient with respect to w, (KH, KW, C_in / groups, C_out)."""
        w_shape = *kernel_size, x.shape[3] // geometry.groups, gy.shape[3]
        return chosen(w_shape, geometry, x.dtype).backward_weight(x, gy, kernel_size, geometry)

    return {"forward": forward, "backward_input": backward_input, "backward_weight": backward_weight}


IMPLEMENTATIONS = {name: _kernels(name) for name in (DEFAULT, *(name for name in VERSIONS if name != DEFAULT))}
forward, backward_input, backward_weight = IMPLEMENTATIONS[DEFAULT].values()
