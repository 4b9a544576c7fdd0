"""conv2d on Tensors: checks the shapes, calls the kernels, and says what is the gradient of what."""

from __future__ import annotations

from typing import Any

from ...engine.basic_ops import broadcast_to
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim, pair
from .geometry import Pair, output_size
from .reference import backward_bias, backward_input, backward_weight, forward


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """2-D convolution (cross-correlation, as in every framework: the kernel is not flipped), channels last.

    x: (N, H, W, C_in), float. w: (KH, KW, C_in / groups, C_out), the dtype of x. b: (C_out,) or None.
    stride, dilation: positive; padding: zeros added on each side, not negative; each a number or (y, x).
    groups: how many independent sets of channels; divides C_in and C_out.
    Returns (N, OH, OW, C_out) with OH = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016.
    """
    stride, padding = pair("conv2d", "stride", stride, 1), pair("conv2d", "padding", padding, 0)
    dilation = pair("conv2d", "dilation", dilation, 1)
    check(x, w, b, stride, padding, dilation, groups)
    return Conv2d.apply(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)


def check(x: Any, w: Any, b: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> None:
    """Raise ValueError or TypeError for arguments of conv2d that do not fit together."""
    check_float("conv2d", x=x, weight=w, bias=b)
    check_ndim("conv2d", "x", x, 4, "(N, H, W, C)")
    check_ndim("conv2d", "weight", w, 4, "(KH, KW, C_in / groups, C_out)")
    if 0 in w.shape:
        raise ValueError(f"conv2d: weight {w.shape} has an axis of length 0; no tap or no channel is left")
    if groups < 1 or x.shape[3] % groups or w.shape[3] % groups:
        raise ValueError(f"conv2d: groups {groups} must divide the channels of x {x.shape} and of weight {w.shape}")
    if w.shape[2] * groups != x.shape[3]:
        raise ValueError(
            f"conv2d: weight {w.shape} expects {w.shape[2] * groups} input channels, x {x.shape} has {x.shape[3]}"
        )
    if b is not None and b.shape != (w.shape[3],):
        raise ValueError(f"conv2d: bias {b.shape} must have one value for each of the {w.shape[3]} output channels")
    if min(output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)) < 1:
        raise ValueError(
            f"conv2d: the kernel {w.shape[:2]} with dilation {dilation} is larger than "
            f"x {x.shape} with padding {padding}"
        )


# Convolution is linear in x and linear in w. Differentiating one of the three kernels gives the other two,
# so these three Functions are closed: derivatives of any order need nothing else.


class Conv2d(Function):
    """y = x * w + b."""

    def forward(self, x, w, b, **geometry):
        self.save(x, w)
        self.geometry = geometry
        return forward(x, w, b, **geometry)

    def backward(self, gy):
        x, w = self.saved
        needs_x, needs_w, needs_b = self.needs_grad
        gx = BackwardInput.apply(gy, w, input_size=x.shape[1:3], **self.geometry) if needs_x else None
        gw = BackwardWeight.apply(x, gy, kernel_size=w.shape[:2], **self.geometry) if needs_w else None
        gb = BackwardBias.apply(gy) if needs_b else None
        return gx, gw, gb


class BackwardInput(Function):
    """gx of gy and w: the transposed convolution."""

    def forward(self, gy, w, *, input_size, **geometry):
        self.save(gy, w)
        self.geometry = geometry
        return backward_input(gy, w, input_size=input_size, **geometry)

    def backward(self, ggx):
        gy, w = self.saved
        needs_gy, needs_w = self.needs_grad
        ggy = Conv2d.apply(ggx, w, None, **self.geometry) if needs_gy else None
        gw = BackwardWeight.apply(ggx, gy, kernel_size=w.shape[:2], **self.geometry) if needs_w else None
        return ggy, gw


class BackwardWeight(Function):
    """gw of x and gy."""

    def forward(self, x, gy, *, kernel_size, **geometry):
        self.save(x, gy)
        self.geometry = geometry
        return backward_weight(x, gy, kernel_size=kernel_size, **geometry)

    def backward(self, ggw):
        x, gy = self.saved
        needs_x, needs_gy = self.needs_grad
        gx = BackwardInput.apply(gy, ggw, input_size=x.shape[1:3], **self.geometry) if needs_x else None
        ggy = Conv2d.apply(x, ggw, None, **self.geometry) if needs_gy else None
        return gx, ggy


class BackwardBias(Function):
    """gb of gy: a sum over pixels, whose gradient is the same for every pixel."""

    def forward(self, gy):
        self.shape = gy.shape
        return backward_bias(gy)

    def backward(self, ggb):
        return broadcast_to(ggb, self.shape)
