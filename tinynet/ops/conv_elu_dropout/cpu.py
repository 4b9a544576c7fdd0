"""The fused operation in Numba: conv2d's implementations finish each part of y while it is in the cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from .._cpu.elementwise import RANGE, range_count, run
from .._cpu.fastmath import ELEMENTWISE
from ..conv2d import blocked, winograd
from ..conv2d.epilogue import Activation
from ..conv2d.geometry import Pair
from ..dropout.cpu import forward_range as dropout_range
from ..elu import cpu as elu

U = np.uint64


def _forward(convolve: Callable) -> Callable:
    """`forward` by a function convolve(x, w, b, activation, **geometry, out=...)."""

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
        """y = dropout(elu(conv2d(x, w, b))); with p = 0 there is no dropout. x may be a tuple of channels."""
        activation = Activation.of(w.dtype, alpha, p, seed, stream, step)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return convolve(x, w, b, activation, **geometry, out=out)

    return forward


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
    """gz, the gradient of the convolution's result, of gy and of y, the result of `forward`."""
    if p == 0:
        return elu.backward(gy, y, alpha=alpha, out=out)
    mask = (U(round(p * 2**32)), U(seed), U(stream), U(step))
    return run(_backward, (gy, y), (alpha, 1 / (1 - p), *mask, 1 - p), out)


@jit(parallel=True, fastmath=ELEMENTWISE)
def _backward(gy, y, alpha, scale, threshold, seed, stream, step, keep, gz):
    one = y.dtype.type(1)
    for r in prange(range_count(y.size)):
        start, stop = r * RANGE, min((r + 1) * RANGE, y.size)
        dropout_range(gy, start, stop, scale, threshold, seed, stream, step, gz)
        for i in range(U(start), U(stop)):
            gz[i] *= one if y[i] > 0 else y[i] * keep + alpha


# Those of conv2d's implementations that have an epilogue, under conv2d's names.
IMPLEMENTATIONS = {
    "winograd2": {"forward": _forward(partial(winograd.convolve, 2))},
    "blocked": {"forward": _forward(blocked.convolve)},
    "fast": {"forward": _forward(partial(winograd.convolve, 4))},
}
