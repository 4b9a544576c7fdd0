"""ReLU on Tensors."""

from __future__ import annotations

from ...engine.basic_ops import where
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import backward, forward


def relu(x: Tensor) -> Tensor:
    """Rectified linear unit max(x, 0); its derivative at 0 is taken to be 0.

    x: float, any shape. Returns the same shape and dtype. Raises TypeError for integers.
    Source: Nair & Hinton, ICML 2010.
    """
    check_float("relu", x=x)
    return Relu.apply(x)


class Relu(Function):
    def forward(self, x):
        y = forward(x)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        if isinstance(gy, Tensor):  # a graph of the gradient is wanted: the same formula in basic ops
            return where(y > 0, gy, 0.0)
        return backward(gy, y)
