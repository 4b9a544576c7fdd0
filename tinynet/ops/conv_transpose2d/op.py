"""conv_transpose2d on Tensors: checks the shapes, calls the kernels, and says what is the gradient of what."""

from __future__ import annotations

from typing import Any

from ...engine.basic_ops import broadcast_to
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim, pair
from .._shared.geometry import Geometry, Pair
from ..conv2d.op import checked_geometry
from .reference import backward_bias, backward_input, backward_weight, forward


def conv_transpose2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """2-D transposed convolution ("up-convolution" where stride > 1), channels last: conv2d's gradient as a layer.

    x: (N, H, W, C_in), float. w: (KH, KW, C_out / groups, C_in), the dtype of x: the weight of the conv2d from
    C_out to C_in channels that this is the transpose of. b: (C_out,) or None.
    stride, dilation: positive. padding: not negative; rows cut off on each side of the result, as many as that
    conv2d pads. output_padding: from 0 to stride - 1; rows added at the bottom and right. Each a number or (y, x).
    groups: how many independent sets of channels; divides C_in and C_out.
    Returns (N, OH, OW, C_out) with OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016, chapter 4.
    """
    geometry = checked_geometry("conv_transpose2d", stride, padding, dilation, groups)
    output_padding = pair("conv_transpose2d", "output_padding", output_padding, 0)
    output_size = _checked_output_size(x, w, b, output_padding, geometry)
    return ConvTranspose2d.apply(x, w, b, output_size=output_size, geometry=geometry)


def _checked_output_size(x: Any, w: Any, b: Any, output_padding: Pair, geometry: Geometry) -> Pair:
    """(OH, OW), once everything is known to fit."""
    name = "conv_transpose2d"
    stride, padding, dilation, groups = geometry
    check_float(name, x=x, weight=w, bias=b)
    check_ndim(name, "x", x, 4, "(N, H, W, C)")
    check_ndim(name, "weight", w, 4, "(KH, KW, C_out / groups, C_in)")
    if 0 in w.shape:
        raise ValueError(f"{name}: weight {w.shape} has an axis of length 0; no tap or no channel is left")
    if w.shape[3] != x.shape[3]:
        raise ValueError(f"{name}: weight {w.shape} expects {w.shape[3]} input channels, x {x.shape} has {x.shape[3]}")
    if groups < 1 or x.shape[3] % groups:
        raise ValueError(f"{name}: groups {groups} must divide the {x.shape[3]} channels of x {x.shape}")
    if b is not None and b.shape != (w.shape[2] * groups,):
        raise ValueError(
            f"{name}: bias {b.shape} must have one value for each of the {w.shape[2] * groups} output channels"
        )
    if output_padding[0] >= stride[0] or output_padding[1] >= stride[1]:
        raise ValueError(
            f"{name}: output_padding {output_padding} must be less than stride {stride}: with more, the result is "
            "no longer what a conv2d of this stride reduces to x"
        )
    height, width = (
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, k, s, p, o, d in zip(x.shape[1:3], w.shape[:2], stride, padding, output_padding, dilation)
    )
    if min(height, width) < 1 or 0 in x.shape[1:3]:
        raise ValueError(f"{name}: the result of x {x.shape}, weight {w.shape} and padding {padding} has no pixels")
    return height, width


# The same three Functions as conv2d's, each in another role, and closed under differentiation for the same reason.


class ConvTranspose2d(Function):
    """y = x transposed-convolved with w, + b."""

    def forward(self, x, w, b, *, output_size, geometry):
        self.save(x, w)
        self.geometry = geometry
        return forward(x, w, b, output_size, geometry)

    def backward(self, gy):
        x, w = self.saved
        needs_x, needs_w, needs_b = self.needs_grad
        gx = BackwardInput.apply(gy, w, geometry=self.geometry) if needs_x else None
        gw = BackwardWeight.apply(x, gy, kernel_size=w.shape[:2], geometry=self.geometry) if needs_w else None
        gb = BackwardBias.apply(gy) if needs_b else None
        return gx, gw, gb


class BackwardInput(Function):
    """gx of gy and w: the convolution."""

    def forward(self, gy, w, *, geometry):
        self.save(gy, w)
        self.geometry = geometry
        return backward_input(gy, w, geometry)

    def backward(self, ggx):
        gy, w = self.saved
        needs_gy, needs_w = self.needs_grad
        size = {"output_size": gy.shape[1:3], "geometry": self.geometry}
        ggy = ConvTranspose2d.apply(ggx, w, None, **size) if needs_gy else None
        gw = BackwardWeight.apply(ggx, gy, kernel_size=w.shape[:2], geometry=self.geometry) if needs_w else None
        return ggy, gw


class BackwardWeight(Function):
    """gw of x and gy."""

    def forward(self, x, gy, *, kernel_size, geometry):
        self.save(x, gy)
        self.geometry = geometry
        return backward_weight(x, gy, kernel_size, geometry)

    def backward(self, ggw):
        x, gy = self.saved
        needs_x, needs_gy = self.needs_grad
        size = {"output_size": gy.shape[1:3], "geometry": self.geometry}
        gx = BackwardInput.apply(gy, ggw, geometry=self.geometry) if needs_x else None
        ggy = ConvTranspose2d.apply(x, ggw, None, **size) if needs_gy else None
        return gx, ggy


class BackwardBias(Function):
    """gb of gy: a sum over pixels, whose gradient is the same for every pixel."""

    def forward(self, gy):
        self.shape = gy.shape
        return backward_bias(gy)

    def backward(self, ggb):
        return broadcast_to(ggb, self.shape)
