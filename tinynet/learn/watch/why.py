"""Which version of conv2d runs on the CPU for a shape, and why: the table in tinynet/ops/conv2d/cpu.py, applied."""

from __future__ import annotations

import numpy as np

from ...ops._shared.geometry import Geometry, Pair

DEFAULTS = {"stride": "1", "padding": "0", "dilation": "1"}
SHAPE = "KHxKWxC_INxC_OUT[,stride=S][,padding=P][,dilation=D][,groups=G][,dtype=T]"


def why(shape: str) -> str:
    """The version that runs for a convolution, with the condition that it meets and the reason, as a sentence.

    shape: of the weight, with all input channels, and further settings, e.g. '3x3x16x32,stride=2,padding=1,groups=4';
    a stride, padding or dilation may also be a pair such as '2x1'. Raises ValueError for anything else.
    """
    from ...ops.conv2d.cpu import Convolution, explain  # imports Numba

    try:
        size, *settings = shape.split(",")
        kh, kw, c_in, c_out = map(int, size.split("x"))
        given = dict(setting.split("=") for setting in settings)
        dtype, groups = np.dtype(given.pop("dtype", "float32")), int(given.pop("groups", 1))
        stride, padding, dilation = (_pair(given.pop(*item)) for item in DEFAULTS.items())
        if given:
            raise ValueError(f"unknown settings: {given}")
    except (ValueError, TypeError):
        raise ValueError(f"--why: {shape!r} is not a shape; it must be {SHAPE}, such as 3x3x16x32,padding=1") from None
    geometry = Geometry(stride, padding, dilation, groups)
    return f"{shape}: {explain(Convolution((kh, kw), c_in, c_out, geometry, dtype))}"


def _pair(text: str) -> Pair:
    """(2, 2) from '2', (2, 1) from '2x1'."""
    y, *rest = map(int, text.split("x"))
    (x,) = rest or (y,)
    return y, x
