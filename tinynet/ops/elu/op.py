"""ELU on Tensors."""

from __future__ import annotations

from ...engine.basic_ops import where
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import backward, forward


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Exponential linear unit: x where x > 0, else alpha (exp(x) - 1).

    x: float, any shape; alpha > 0. Returns the same shape and dtype. Raises TypeError for integers and
    ValueError for alpha <= 0. Source: Clevert et al., ICLR 2016, section 3.
    """
    check_float("elu", x=x)
    return Elu.apply(x, alpha=checked_alpha(alpha))


def checked_alpha(alpha: float) -> float:
    """alpha as a float. Raises ValueError unless it is positive."""
    if not alpha > 0:
        raise ValueError(f"elu: alpha is {alpha}; it must be positive")
    return float(alpha)


class Elu(Function):
    def forward(self, x, *, alpha):
        y = forward(x, alpha=alpha)
        self.save(y)
        self.alpha = alpha
        return y

    def backward(self, gy):
        (y,) = self.saved
        if isinstance(gy, Tensor):  # a graph of the gradient is wanted: the same formula in basic ops
            return gy * where(y > 0, 1.0, y + self.alpha)
        return backward(gy, y, alpha=self.alpha)
