"""conv2d on Tensors: checks the shapes, calls the kernels, and says what is the gradient of what."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ...engine.basic_ops import broadcast_to
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim, pair
from .._shared.epilogue import PLAIN
from .._shared.geometry import Geometry, Pair
from .._shared.pooling import extended
from ..concat.op import concat
from .reference import backward_bias, backward_input, backward_weight, forward


def conv2d(
    x: Tensor | Sequence[Tensor],
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """2-D convolution (cross-correlation, as in every framework: the kernel is not flipped), channels last.

    x: (N, H, W, C_in), float; or a list or tuple of such Tensors whose channels follow each other, as in a skip
    connection: the result is that of `concat(x, axis=3)`, without the copy. w: (KH, KW, C_in / groups, C_out), the
    dtype of x. b: (C_out,) or None.
    stride, dilation: positive; padding: zeros added on each side, not negative; each a number or (y, x). padding="same"
    (for stride 1) keeps the size; a kernel of even size gets one more zero at the end.
    groups: how many independent sets of channels; divides C_in and C_out.
    Returns (N, OH, OW, C_out) with OH = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016.
    """
    if isinstance(padding, str):
        padding, extra = padding_by_name("conv2d", padding, w.shape[:2], stride, dilation)
        x = [extended(part, extra) for part in x] if isinstance(x, (list, tuple)) else extended(x, extra)
    geometry = checked_geometry("conv2d", stride, padding, dilation, groups)
    return Conv2d.apply(w, b, *checked_inputs(x, w, b, geometry), geometry=geometry)


def padding_by_name(op: str, name: str, kernel: tuple, stride: Any, dilation: Any) -> tuple[Pair, Pair]:
    """(padding, further zeros at the end) for "same" or "valid". Raises ValueError for other names, and for strides."""
    if name not in ("same", "valid") or (name == "same" and pair(op, "stride", stride, 1) != (1, 1)):
        raise ValueError(
            f"{op}: padding is {name!r}, stride {stride}; a number, 'valid', or for stride 1 'same' is needed"
        )
    reach = [d * (k - 1) if name == "same" else 0 for k, d in zip(kernel, pair(op, "dilation", dilation, 1))]
    return (reach[0] // 2, reach[1] // 2), (reach[0] % 2, reach[1] % 2)


def checked_geometry(op: str, stride: Any, padding: Any, dilation: Any, groups: int) -> Geometry:
    """The Geometry of numbers or pairs. Raises ValueError for what is not one; groups are checked with the channels."""
    return Geometry(
        pair(op, "stride", stride, 1), pair(op, "padding", padding, 0), pair(op, "dilation", dilation, 1), groups
    )


def checked_inputs(x: Any, w: Any, b: Any, geometry: Geometry) -> Sequence[Any]:
    """The inputs of a convolution as a list. Raises ValueError or TypeError for arguments that do not fit together."""
    inputs = _checked_list(x) if isinstance(x, (list, tuple)) else [x]
    x, groups = inputs[0], geometry.groups
    check_float("conv2d", x=x, weight=w, bias=b)
    check_ndim("conv2d", "x", x, 4, "(N, H, W, C)")
    check_ndim("conv2d", "weight", w, 4, "(KH, KW, C_in / groups, C_out)")
    x_shape = (*x.shape[:3], sum(part.shape[3] for part in inputs))
    if 0 in w.shape:
        raise ValueError(f"conv2d: weight {w.shape} has an axis of length 0; no tap or no channel is left")
    if groups < 1 or x_shape[3] % groups or w.shape[3] % groups:
        raise ValueError(f"conv2d: groups {groups} must divide the channels of x {x_shape} and of weight {w.shape}")
    if w.shape[2] * groups != x_shape[3]:
        raise ValueError(
            f"conv2d: weight {w.shape} expects {w.shape[2] * groups} input channels, x {x_shape} has {x_shape[3]}"
        )
    if b is not None and b.shape != (w.shape[3],):
        raise ValueError(f"conv2d: bias {b.shape} must have one value for each of the {w.shape[3]} output channels")
    if min(geometry.output_size(x_shape[1:3], w.shape[:2])) < 1:
        raise ValueError(
            f"conv2d: the kernel {w.shape[:2]} with dilation {geometry.dilation} is larger than "
            f"x {x_shape} with padding {geometry.padding}"
        )
    return inputs if groups == 1 else [concat(inputs, axis=3)] if len(inputs) > 1 else inputs


def _checked_list(inputs: Sequence[Any]) -> list[Any]:
    """Several inputs, once it is known that they differ in their channels only."""
    if not inputs:
        raise ValueError("conv2d: x is an empty list; at least one Tensor is needed")
    for i, part in enumerate(inputs):
        check_float("conv2d", **{"x[0]": inputs[0], f"x[{i}]": part})
        check_ndim("conv2d", f"x[{i}]", part, 4, "(N, H, W, C)")
        if part.shape[:3] != inputs[0].shape[:3]:
            raise ValueError(f"conv2d: x[0] {inputs[0].shape} and x[{i}] {part.shape} may differ in channels only")
    return list(inputs)


# Convolution is linear in x and linear in w. Differentiating one of the three kernels gives the other two,
# so these Functions are closed: derivatives of any order need nothing else.


class Conv2d(Function):
    """y = x * w + b, where the channels of x may lie in several arrays."""

    def forward(self, w, b, *inputs, geometry, epilogue=PLAIN):
        """With an epilogue, the result has gone through it, and gy in backward is the gradient before it."""
        self.save(w, *inputs)
        self.geometry = geometry
        return forward(inputs[0] if len(inputs) == 1 else inputs, w, b, geometry, epilogue)

    def backward(self, gy):
        w, *inputs = self.saved
        return gradients(gy, w, inputs, self.needs_grad, self.geometry)


def gradients(gy: Any, w: Any, inputs: Sequence[Any], needs_grad: Sequence[bool], geometry: Geometry) -> tuple:
    """The gradients (gw, gb, *gx) of a convolution of several inputs; None where needs_grad says so."""
    needs_w, needs_b, *needs_inputs = needs_grad
    gb = BackwardBias.apply(gy) if needs_b else None
    gw = None
    if needs_w:
        gws = [BackwardWeight.apply(x, gy, kernel_size=w.shape[:2], geometry=geometry) for x in inputs]
        gw = gws[0] if len(gws) == 1 else concat(gws, axis=2)
    if not any(needs_inputs):
        return gw, gb, *(None for _ in inputs)
    gx = BackwardInput.apply(gy, w, input_size=inputs[0].shape[1:3], geometry=geometry)
    if len(inputs) == 1:
        return gw, gb, gx
    ends = itertools.accumulate(x.shape[3] for x in inputs)
    return gw, gb, *(gx[..., end - x.shape[3] : end] for x, end in zip(inputs, ends))


class BackwardInput(Function):
    """gx of gy and w: the transposed convolution."""

    def forward(self, gy, w, *, input_size, geometry):
        self.save(gy, w)
        self.geometry = geometry
        return backward_input(gy, w, input_size, geometry)

    def backward(self, ggx):
        gy, w = self.saved
        needs_gy, needs_w = self.needs_grad
        ggy = Conv2d.apply(w, None, ggx, geometry=self.geometry) if needs_gy else None
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
        gx = BackwardInput.apply(gy, ggw, input_size=x.shape[1:3], geometry=self.geometry) if needs_x else None
        ggy = Conv2d.apply(ggw, None, x, geometry=self.geometry) if needs_gy else None
        return gx, ggy


class BackwardBias(Function):
    """gb of gy: a sum over pixels, whose gradient is the same for every pixel."""

    def forward(self, gy):
        self.shape = gy.shape
        return backward_bias(gy)

    def backward(self, ggb):
        return broadcast_to(ggb, self.shape)
