"""The fused operation on a GPU: conv2d's kernels finish each result while it is in a register."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from .._cuda.elementwise import VARIANTS, run
from ..conv2d.cuda import VERSIONS, Activation, Version, convolve
from ..conv2d.geometry import Pair

SOURCE = Source(Path(__file__).with_name("conv_elu_dropout.cu"), VARIANTS)


def _forward(
    version: Version,
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    alpha: float = 1.0,
    p: float = 0.0,
    seed: int = 0,
    stream: int = 0,
    step: int = 0,
    out: Any = None,
) -> Any:
    """y = dropout(elu(conv2d(x, w, b))); with p = 0 there is no dropout. x may be a tuple of channels."""
    activation = Activation(True, alpha, 1 / (1 - p), round(p * 2**32), seed, stream, step)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return convolve(version.forward, x, w, b, activation, **geometry, out=out)


def backward(
    gy: Any,
    y: Any,
    *,
    alpha: float = 1.0,
    p: float = 0.0,
    seed: int = 0,
    stream: int = 0,
    step: int = 0,
    out: Any = None,
) -> Any:
    """gz, the gradient of the convolution's result, of gy and of y, the result of `forward`."""
    mask = (round(p * 2**32), seed, stream, step)
    return run(SOURCE, "conv_elu_dropout_backward", (gy, y), (alpha, 1 - p, 1 / (1 - p), *mask), out)


# Those of conv2d's implementations that have an epilogue, under conv2d's names.
IMPLEMENTATIONS = {name: {"forward": partial(_forward, VERSIONS[name])} for name in ("blocked", "tf32")}
