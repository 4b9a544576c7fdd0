"""Leaky ReLU on Tensors."""

from __future__ import annotations

from ...engine.basic_ops import where
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import backward, forward


def leaky_relu(x: Tensor, slope: float = 0.1) -> Tensor:
    """Leaky rectified linear unit: x where x > 0, else slope x; its derivative at 0 is taken to be slope.

    x: float, any shape; slope > 0. Returns the same shape and dtype. Raises TypeError for integers in x and
    ValueError for slope <= 0. Source: Maas et al., ICML 2013 workshop, section 2.
    """
    check_float("leaky_relu", x=x)
    if not slope > 0:
        raise ValueError(f"leaky_relu: slope is {slope}; it must be positive (for 0 there is relu)")
    return LeakyRelu.apply(x, slope=float(slope))


class LeakyRelu(Function):
    def forward(self, x, *, slope):
        y = forward(x, slope=slope)
        self.save(y)
        self.slope = slope
        return y

    def backward(self, gy):
        (y,) = self.saved
        if isinstance(gy, Tensor):  # a graph of the gradient is wanted: the same formula in basic ops
            return where(y > 0, gy, self.slope * gy)
        return backward(gy, y, slope=self.slope)
