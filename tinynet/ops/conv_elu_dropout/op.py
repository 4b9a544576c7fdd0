"""The fused operation on Tensors. `nn.Sequential` calls it where conv, ELU and dropout follow each other."""

from __future__ import annotations

import itertools

from ...backends.registry import has_overrides, implementation_in_use, implementations, tier_of, use_kernels
from ...engine.basic_ops import where
from ...engine.tensor import Function, Tensor
from ..concat.joined import Joined
from ..concat.op import concat
from ..conv2d.op import BackwardBias, BackwardInput, BackwardWeight, check
from ..dropout import reference as dropout
from ..dropout.op import Dropout, checked_mask
from ..elu import reference as elu
from ..elu.op import checked_alpha
from .reference import backward, forward

CONSTITUENTS = ("conv2d", "elu", "dropout")


def can_fuse(w: Tensor) -> bool:
    """Whether the fused kernel computes what the three operations would compute now, with a weight w.

    It does not where somebody put a kernel of his own into one of them, or chose an implementation of conv2d that
    has no epilogue: then the three run one by one.
    """
    if any(has_overrides(op) for op in CONSTITUENTS):
        return False
    tier = tier_of(w.data)
    return implementation_in_use("conv2d", tier) in implementations("conv_elu_dropout", tier)


def conv_elu_dropout(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    alpha: float = 1.0,
    p: float = 0.0,
    seed: int = 0,
    stream: int = 0,
    step: int = 0,
) -> Tensor:
    """dropout(elu(conv2d(x, w, b))) in one pass over memory; with p = 0 without the dropout.

    Arguments, result and errors are those of the three operations; see there. Where x is a concatenation that has
    not been copied together yet, it is not: the convolution reads the parts.
    """
    check(x, w, b, stride, padding, dilation, groups)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    parameters = {"alpha": checked_alpha(alpha), "mask": checked_mask(p, seed, stream, step)}
    parts = x.parts if isinstance(x, Joined) and groups == 1 else None  # groups would cut across the parts
    return ConvEluDropout.apply(w, b, *(parts or (x,)), geometry=geometry, **parameters)


class ConvEluDropout(Function):
    """y = dropout(elu(conv2d(x, w, b))), where the channels of x may lie in several arrays."""

    def forward(self, w, b, *parts, geometry, alpha, mask):
        self.geometry, self.alpha, self.mask = geometry, alpha, mask
        x = parts[0] if len(parts) == 1 else parts
        with use_kernels("conv_elu_dropout", implementation_in_use("conv2d", tier_of(w))):
            y = forward(x, w, b, **geometry, alpha=alpha, **mask)
        self.save(w, y, *parts)
        return y

    def backward(self, gy):
        w, y, *parts = self.saved
        needs_w, needs_b, *needs_parts = self.needs_grad
        gz = self.gradient_of_convolution(gy, y)
        gb = BackwardBias.apply(gz) if needs_b else None
        gw = None
        if needs_w:
            gws = [BackwardWeight.apply(x, gz, kernel_size=w.shape[:2], **self.geometry) for x in parts]
            gw = gws[0] if len(gws) == 1 else concat(gws, axis=2)
        if not any(needs_parts):
            return gw, gb, *(None for _ in parts)
        gx = BackwardInput.apply(gz, w, input_size=parts[0].shape[1:3], **self.geometry)
        if len(parts) == 1:
            return gw, gb, gx
        ends = itertools.accumulate(x.shape[3] for x in parts)
        return gw, gb, *(gx[..., end - x.shape[3] : end] for x, end in zip(parts, ends))

    def gradient_of_convolution(self, gy, y):
        """gz of gy and y, back through dropout and ELU."""
        keep = 1 - self.mask["p"]
        if isinstance(gy, Tensor):  # a graph of the gradient is wanted: the formula by operations that have a gradient
            return Dropout.apply(gy, **self.mask) * where(y > 0, 1.0, y * keep + self.alpha)
        if has_overrides("elu") or has_overrides("dropout"):  # set after the forward pass: they are what must run
            return elu.backward(dropout.forward(gy, **self.mask), y * keep, alpha=self.alpha)
        return backward(gy, y, alpha=self.alpha, **self.mask)
