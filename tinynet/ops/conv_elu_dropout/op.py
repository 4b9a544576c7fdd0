"""The fused operation on Tensors. `nn.Sequential` calls it where Conv2d, ELU and maybe Dropout follow each other."""

from __future__ import annotations

from collections.abc import Sequence

from ...backends.registry import has_overrides
from ...engine.tensor import Function, Tensor
from .._shared.checks import positive
from .._shared.epilogue import Epilogue
from .._shared.geometry import Geometry
from ..activations.entries import Elu
from ..conv2d.op import Conv2d, checked_inputs
from ..dropout import reference as dropout
from ..dropout.op import Dropout, checked_mask
from .reference import backward


def can_fuse() -> bool:
    """False if a student's kernel replaces one of conv2d, elu and dropout: then the three run one by one."""
    return not any(has_overrides(op) for op in ("conv2d", "elu", "dropout"))


def conv_elu_dropout(
    x: Tensor | Sequence[Tensor], w: Tensor, b: Tensor | None, geometry: Geometry, epilogue: Epilogue
) -> Tensor:
    """dropout(elu(conv2d(x, w, b))) in one pass over memory; with p = 0 without the dropout.

    Arguments, result and errors are those of the three operations; see there.
    """
    assert epilogue.alpha is not None  # an ELU always follows here
    positive("elu", "alpha", epilogue.alpha)
    epilogue = epilogue._replace(**checked_mask(**epilogue.mask))
    y = Conv2d.apply(w, b, *checked_inputs(x, w, b, geometry), geometry=geometry, epilogue=epilogue)
    return EluDropout.apply(y, epilogue=epilogue)


class EluDropout(Function):
    """The second node of the fused operation: conv2d has applied the epilogue already, so forward does nothing.

    With a node of its own, the backward pass frees gy and y before the gradients of the convolution need memory.
    """

    def forward(self, y, *, epilogue):
        self.epilogue = epilogue
        y = y[...]  # another array object, so that the saved array is known to be the output and not the input
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        alpha, p, mask = self.epilogue.alpha, self.epilogue.p, self.epilogue.mask
        if has_overrides("elu") or has_overrides("dropout"):  # set after the forward pass: they must run
            return Elu.kernels.backward(dropout.forward(gy, **mask), y * (1 - p), alpha=alpha)
        return backward(gy, y, self.epilogue)

    def backward_graph(self, gy):
        (y,) = self.saved
        alpha, p, mask = self.epilogue.alpha, self.epilogue.p, self.epilogue.mask
        return Elu.gradient(Dropout.apply(gy, **mask), y * (1 - p), alpha)
