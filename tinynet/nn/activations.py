"""Activations, Maxout and Flatten. Only PReLU has a parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.basic_ops import log_softmax, reshape, softmax
from ..engine.tensor import Tensor
from ..ops.activations.entries import elu, leaky_relu, relu, relu6, sigmoid, softplus, tanh
from ..ops.maxout.op import maxout
from ..ops.prelu.op import prelu
from .module import Module, Parameter


class ELU(Module):
    """x where x > 0, alpha (exp(x) - 1) elsewhere.

    Clevert et al., Fast and Accurate Deep Network Learning by Exponential Linear Units, 2015.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return elu(x, self.alpha)


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class ReLU6(Module):
    """min(max(x, 0), 6)."""

    def forward(self, x: Tensor) -> Tensor:
        return relu6(x)


class LeakyReLU(Module):
    """x where x > 0, slope * x elsewhere."""

    def __init__(self, slope: float = 0.1) -> None:
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.slope)


class PReLU(Module):
    """x where x > 0, slope * x elsewhere. The slope is learned.

    channels: the number of slopes, one for each channel of the last axis; 1: one slope for all channels.
    slope: where they start; afterwards the parameter of this name, (channels,).
    He et al., Delving Deep into Rectifiers, 2015, section 2.1: no weight decay for the slopes.
    """

    def __init__(self, channels: int = 1, slope: float = 0.25) -> None:
        if channels < 1:
            raise ValueError(f"PReLU: channels is {channels}; it must be at least 1")
        self.slope = Parameter(np.full(channels, slope, dtype=np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return prelu(x, self.slope)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class Softplus(Module):
    """log(1 + exp(x)), a smooth ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return softplus(x)


class Softmax(Module):
    """exp(x) / sum of exp(x) along an axis. The losses of logits need none before them."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.axis)


class LogSoftmax(Softmax):
    """The logarithm of the softmax along an axis."""

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(x, self.axis)


class Identity(Module):
    """x itself, in the place of a layer that is left out."""

    def forward(self, x: Any) -> Any:
        return x


class Maxout(Module):
    """The largest of each `pieces` neighboring channels: (..., C) -> (..., C / pieces).

    Goodfellow et al., Maxout Networks, 2013.
    """

    def __init__(self, pieces: int = 2) -> None:
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return maxout(x, self.pieces)


class Flatten(Module):
    """All axes but the first in one: (N, ...) -> (N, F)."""

    def forward(self, x: Tensor) -> Tensor:
        return reshape(x, (x.shape[0], -1))
