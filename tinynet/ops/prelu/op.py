"""prelu on Tensors: checks, and what is the gradient of what."""

from __future__ import annotations

from typing import Any

from ...engine.basic_ops import broadcast_to, maximum, minimum, reshape
from ...engine.tensor import Function, Tensor, grad
from .._shared.checks import check_float
from .reference import backward, forward


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Parametric rectified linear unit: x where x > 0, else slope x. The slope gets a gradient, too.

    x: float, (..., C). slope: one for each channel, (C,), or one for all, (1,) or (); the dtype of x.
    Returns the shape and dtype of x; the derivative at x = 0 is taken to be slope. Raises TypeError or ValueError.
    Source: He et al., Delving Deep into Rectifiers, ICCV 2015, section 2.1.
    """
    check_float("prelu", x=x, slope=slope)
    if slope.shape not in ((), (1,), tuple(x.shape[-1:])):
        raise ValueError(
            f"prelu: slope has shape {tuple(slope.shape)}; x {tuple(x.shape)} needs one slope for each channel of its "
            "last axis, or one for all: shape (1,)"
        )
    channels = x.shape[-1] if x.ndim else 1
    if x.size == 0:
        return composed(x, slope)
    return reshape(Prelu.apply(reshape(x, (-1, channels)), broadcast_to(slope, (channels,))), x.shape)


class Prelu(Function):
    """y (R, C) of x and slope (C,)."""

    def forward(self, x, slope):
        self.save(x, slope)
        return forward(x, slope)

    def backward(self, gy):
        return backward(gy, *self.saved)

    def backward_graph(self, gy):
        inputs, wanted = self.saved, [t for t, needed in zip(self.saved, self.needs_grad) if needed]
        gradients = iter(grad(composed(*inputs), wanted, gy, create_graph=True))
        return tuple(next(gradients) if needed else None for needed in self.needs_grad)


def composed(x: Any, slope: Any) -> Any:
    """The same in basic ops, whose gradients have gradients."""
    return maximum(x, 0.0) + slope * minimum(x, 0.0)
