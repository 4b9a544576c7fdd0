"""Local response normalization on Tensors."""

from __future__ import annotations

import operator
from typing import Any

from ...engine.basic_ops import pad
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import backward, forward


def local_response_norm(x: Tensor, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> Tensor:
    """Divide each channel by the activity of its neighbors: y_c = x_c / (k + alpha sum of x_j^2)^beta.

    x: (..., C), float, e.g. (N, H, W, C). The sum is over `size` channels around c, an odd number, as many of them as
    there are. k and alpha: positive. The default values are AlexNet's. Returns the shape and dtype of x.
    alpha is the paper's; PyTorch's is `size` times as large, because it takes the mean of the squares.

    Raises TypeError or ValueError, naming the argument, for what does not fit.
    Source: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012, section 3.3.
    """
    op = "local_response_norm"
    check_float(op, x=x)
    if x.ndim == 0:
        raise ValueError(f"{op}: x has no axes; the last one is needed for the channels")
    try:
        size = operator.index(size)
    except TypeError:
        raise TypeError(f"{op}: size is {size!r}; an integer is needed") from None
    if size < 1 or size % 2 == 0:
        raise ValueError(f"{op}: size is {size}; an odd number of channels is needed, as many on either side")
    if not (k > 0 and alpha >= 0):
        raise ValueError(f"{op}: k is {k}, alpha is {alpha}; k > 0 and alpha >= 0 are needed")
    parameters = {"size": size, "k": float(k), "alpha": float(alpha), "beta": float(beta)}
    return LocalResponseNorm.apply(x, **parameters)


class LocalResponseNorm(Function):
    def forward(self, x, **parameters):
        self.save(x)
        self.parameters = parameters
        return forward(x, **parameters)

    def backward(self, gy):
        (x,) = self.saved
        return backward(gy, x, **self.parameters)

    def backward_graph(self, gy):
        (x,) = self.saved
        size, k, alpha, beta = self.parameters.values()
        s = k + alpha * _window_sum(x * x, size)
        t = gy * x * s ** (-beta - 1)
        return gy * s**-beta - (2 * alpha * beta) * x * _window_sum(t, size)


def _window_sum(v: Any, size: int) -> Any:
    """For each channel the sum over those at most (size - 1) / 2 away from it."""
    channels, half = v.shape[-1], size // 2
    padded = pad(v, [(0, 0)] * (v.ndim - 1) + [(half, half)])
    return sum((padded[..., d : d + channels] for d in range(1, size)), padded[..., :channels])
