"""The fused operation by its definition: the references of conv2d, elu and dropout, one after the other."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from ..conv2d import reference as conv2d
from ..conv2d.geometry import Pair
from ..dropout import reference as dropout
from ..elu import reference as elu


@kernel
def forward(
    x: np.ndarray | tuple[np.ndarray, ...],
    w: np.ndarray,
    b: np.ndarray | None = None,
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
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y = dropout(elu(conv2d(x, w, b))); with p = 0 there is no dropout.

    x: (N, H, W, C_in), or a tuple of arrays with the channels of x one behind the other.
    """
    x = np.concatenate(x, axis=3) if isinstance(x, tuple) else x
    z = conv2d.forward.definition(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return dropout.forward.definition(
        elu.forward.definition(z, alpha=alpha), p=p, seed=seed, stream=stream, step=step, out=out
    )


@kernel
def backward(
    gy: np.ndarray,
    y: np.ndarray,
    *,
    alpha: float = 1.0,
    p: float = 0.0,
    seed: int = 0,
    stream: int = 0,
    step: int = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gz, the gradient of the convolution's result, of gy and of y, the result of `forward`.

    A kept y is the output of ELU divided by 1 - p, so y (1 - p) is what ELU's gradient needs. Where y was dropped it
    is 0, and so is the gradient.
    """
    g = dropout.forward.definition(gy, p=p, seed=seed, stream=stream, step=step)
    return elu.backward.definition(g, y * (1 - p), alpha=alpha, out=out)
