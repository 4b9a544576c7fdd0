"""Dropout on Tensors."""

from __future__ import annotations

import operator
from typing import Any

from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import forward


def dropout(x: Tensor, p: float, *, seed: int, stream: int, step: int, first: int = 0) -> Tensor:
    """Set each element to 0 with probability p and multiply the others by 1 / (1 - p): the mean is unchanged.

    x: float, any shape. p: 0 <= p < 1. seed, stream: 0 .. 2**32 - 1; step: 0 .. 2**64 - 1. The same three give
    the same mask, whatever the dtype of x and on every tier.
    first: 0 .. 2**63 - 1, the index of x's first element (in C order) in the whole batch, if x is a share of it. The
    share then gets its part of the mask of the whole batch.
    Returns the shape and dtype of x.
    Raises TypeError for integers in x and ValueError for a number out of its range.

    `nn.Dropout` is the layer that counts the steps and does nothing in evaluation.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, section 10 (the scaling at training time).
    """
    check_float("dropout", x=x)
    return Dropout.apply(x, **checked_mask(p, seed, stream, step, first))


def checked_mask(p: float, seed: int, stream: int, step: int, first: int) -> dict[str, Any]:
    """The parameters of the kernel. Raises ValueError or TypeError for a number out of its range."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p is {p}; the probability of dropping must satisfy 0 <= p < 1")
    return {
        "p": float(p),
        "seed": _counter("seed", seed, bits=32),
        "stream": _counter("stream", stream, bits=32),
        "step": _counter("step", step, bits=64),
        "first": _counter("first", first, bits=63),
    }


def _counter(name: str, value: int, bits: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"dropout: {name} is {value!r}; an integer is needed") from None
    if not 0 <= value < 2**bits:
        raise ValueError(f"dropout: {name} is {value}; it must lie in 0 .. 2**{bits} - 1")
    return value


class Dropout(Function):
    """Linear in x with a diagonal matrix: the gradient is the same operation, with the same mask, on gy."""

    def forward(self, x, **parameters):
        self.parameters = parameters
        return forward(x, **parameters)

    def backward(self, gy):
        return Dropout.apply(gy, **self.parameters)
