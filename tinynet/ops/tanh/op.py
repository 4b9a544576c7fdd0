"""tanh on Tensors."""

from __future__ import annotations

from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import backward, forward


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, between -1 and 1.

    x: float, any shape. Returns the same shape and dtype. Raises TypeError for integers.
    """
    check_float("tanh", x=x)
    return Tanh.apply(x)


class Tanh(Function):
    def forward(self, x):
        y = forward(x)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        if isinstance(gy, Tensor):  # a graph of the gradient is wanted: the same formula in basic ops
            return gy * ((1 - y) * (1 + y))
        return backward(gy, y)
