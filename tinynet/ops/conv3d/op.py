"""conv3d and its transpose on Tensors: check the shapes, call the kernels, say what is the gradient of what."""

from __future__ import annotations

from typing import Any

from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim, integers
from .._shared.geometry import Geometry, Triple
from ..conv2d.op import BackwardBias
from .reference import backward_input, backward_weight, forward

AXES = "(z, y, x)"


def conv3d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
) -> Tensor:
    """3-D convolution (cross-correlation: the kernel is not flipped) of volumes, channels last.

    x: (N, D, H, W, C_in), float. w: (KD, KH, KW, C_in / groups, C_out), the dtype of x. b: (C_out,) or None.
    stride, dilation: positive; padding: zeros added on each side, not negative; each a number or (z, y, x).
    groups: how many independent sets of channels; divides C_in and C_out.
    Returns (N, OD, OH, OW, C_out) with OD = (D + 2 padding - dilation (KD - 1) - 1) // stride + 1, and so on.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    Source: Çiçek et al., 3D U-Net: learning dense volumetric segmentation from sparse annotation, MICCAI 2016.
    """
    geometry = _checked_geometry("conv3d", stride, padding, dilation, groups)
    _check_arrays("conv3d", x, w, b, "(KD, KH, KW, C_in / groups, C_out)")
    if groups < 1 or x.shape[4] % groups or w.shape[4] % groups:
        raise ValueError(f"conv3d: groups {groups} must divide the channels of x {x.shape} and of weight {w.shape}")
    _check_channels("conv3d", x, w, b, c_in=w.shape[3] * groups, c_out=w.shape[4])
    if min(geometry.output_size(x.shape[1:4], w.shape[:3])) < 1:
        raise ValueError(
            f"conv3d: the kernel {w.shape[:3]} with dilation {geometry.dilation} is larger than "
            f"x {x.shape} with padding {geometry.padding}"
        )
    return Conv3d.apply(x, w, b, geometry=geometry)


def conv_transpose3d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple = 0,
    output_padding: int | Triple = 0,
) -> Tensor:
    """3-D transposed convolution ("up-convolution" where stride > 1), channels last: conv3d's gradient as a layer.

    x: (N, D, H, W, C_in), float. w: (KD, KH, KW, C_out, C_in), the dtype of x: the weight of the conv3d from C_out to
    C_in channels that this is the transpose of. b: (C_out,) or None. stride: positive. padding: voxels cut off on each
    side. output_padding: from 0 to stride - 1; voxels added at the far end. Each a number or (z, y, x).
    Returns (N, OD, OH, OW, C_out) with OD = (D - 1) stride - 2 padding + KD + output_padding, and so on.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    Source: Milletari et al., V-Net, 3DV 2016, section 2; Dumoulin & Visin, 2016, chapter 4.
    """
    name = "conv_transpose3d"
    geometry = _checked_geometry(name, stride, padding, 1, 1)
    extra = integers(name, "output_padding", output_padding, 0, AXES)
    _check_arrays(name, x, w, b, "(KD, KH, KW, C_out, C_in)")
    _check_channels(name, x, w, b, c_in=w.shape[4], c_out=w.shape[3])
    if any(e >= s for e, s in zip(extra, geometry.stride)):
        raise ValueError(f"{name}: output_padding {extra} must be less than stride {geometry.stride}")
    axes = zip(x.shape[1:4], w.shape[:3], geometry.stride, geometry.padding, extra)
    size = tuple((n - 1) * s - 2 * p + k + e for n, k, s, p, e in axes)
    if min(size) < 1 or 0 in x.shape[1:4]:
        raise ValueError(f"{name}: the result of x {x.shape}, weight {w.shape} and padding {geometry.padding} is empty")
    y = BackwardInput.apply(x, w, input_size=size, geometry=geometry)
    return y if b is None else y + b


def _checked_geometry(name: str, stride: Any, padding: Any, dilation: Any, groups: int) -> Geometry:
    """The Geometry of numbers or triples. Raises ValueError for what is not one."""
    return Geometry(
        integers(name, "stride", stride, 1, AXES),  # type: ignore[arg-type] # triples where images have pairs
        integers(name, "padding", padding, 0, AXES),  # type: ignore[arg-type]
        integers(name, "dilation", dilation, 1, AXES),  # type: ignore[arg-type]
        groups,
    )


def _check_arrays(name: str, x: Any, w: Any, b: Any, axes_of_w: str) -> None:
    check_float(name, x=x, weight=w, bias=b)
    check_ndim(name, "x", x, 5, "(N, D, H, W, C)")
    check_ndim(name, "weight", w, 5, axes_of_w)
    if 0 in w.shape:
        raise ValueError(f"{name}: weight {w.shape} has an axis of length 0; no tap or no channel is left")


def _check_channels(name: str, x: Any, w: Any, b: Any, c_in: int, c_out: int) -> None:
    if c_in != x.shape[4]:
        raise ValueError(f"{name}: weight {w.shape} expects {c_in} input channels, x {x.shape} has {x.shape[4]}")
    if b is not None and b.shape != (c_out,):
        raise ValueError(f"{name}: bias {b.shape} must have one value for each of the {c_out} output channels")


# As in conv2d: each of the three kernels is linear in both of its arrays, and its gradients are the other two.


class Conv3d(Function):
    """y = x * w + b."""

    def forward(self, x, w, b, *, geometry):
        self.save(x, w)
        self.geometry = geometry
        return forward(x, w, b, geometry)

    def backward(self, gy):
        (x, w), (needs_x, needs_w, needs_b) = self.saved, self.needs_grad
        gx = BackwardInput.apply(gy, w, input_size=x.shape[1:4], geometry=self.geometry) if needs_x else None
        gw = BackwardWeight.apply(x, gy, kernel_size=w.shape[:3], geometry=self.geometry) if needs_w else None
        return gx, gw, BackwardBias.apply(gy.reshape(-1, *gy.shape[2:])) if needs_b else None  # slices are images


class BackwardInput(Function):
    """gx of gy and w: the transposed convolution."""

    def forward(self, gy, w, *, input_size, geometry):
        self.save(gy, w)
        self.geometry = geometry
        return backward_input(gy, w, input_size, geometry)

    def backward(self, ggx):
        (gy, w), (needs_gy, needs_w) = self.saved, self.needs_grad
        ggy = Conv3d.apply(ggx, w, None, geometry=self.geometry) if needs_gy else None
        return ggy, BackwardWeight.apply(ggx, gy, kernel_size=w.shape[:3], geometry=self.geometry) if needs_w else None


class BackwardWeight(Function):
    """gw of x and gy."""

    def forward(self, x, gy, *, kernel_size, geometry):
        self.save(x, gy)
        self.geometry = geometry
        return backward_weight(x, gy, kernel_size, geometry)

    def backward(self, ggw):
        (x, gy), (needs_x, needs_gy) = self.saved, self.needs_grad
        gx = BackwardInput.apply(gy, ggw, input_size=x.shape[1:4], geometry=self.geometry) if needs_x else None
        return gx, Conv3d.apply(x, ggw, None, geometry=self.geometry) if needs_gy else None
