"""The sigmoid on Tensors."""

from __future__ import annotations

from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import backward, forward


def sigmoid(x: Tensor) -> Tensor:
    """Logistic sigmoid 1 / (1 + exp(-x)), between 0 and 1; exact for large |x| too.

    x: float, any shape. Returns the same shape and dtype. Raises TypeError for integers.
    """
    check_float("sigmoid", x=x)
    return Sigmoid.apply(x)


class Sigmoid(Function):
    def forward(self, x):
        y = forward(x)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        if isinstance(gy, Tensor):  # a graph of the gradient is wanted: the same formula in basic ops
            return gy * y * (1 - y)
        return backward(gy, y)
