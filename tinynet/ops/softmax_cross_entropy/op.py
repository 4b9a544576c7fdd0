"""Softmax cross-entropy on Tensors."""

from __future__ import annotations

from typing import Any

from ...backends.arrays import array_module, device_of
from ...engine.basic_ops import softmax
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .._shared.targets import beside, check_not_empty, constant
from .formula import total_weight
from .reference import backward, forward


def softmax_cross_entropy(x: Tensor, target: Any, weight: Any = None) -> Tensor:
    """Mean cross-entropy between the softmax of x over its last axis and classes given as indices.

    x: logits (before any softmax), float, (..., C): (N, C) for images, (N, H, W, C) for pixels.
    target: integers in 0 .. C - 1, of the shape of x without its last axis. A class that does not exist is refused in
        a NumPy array; one that lies on a GPU is not looked at, and the loss is then NaN.
    weight: None, or a factor for each class, (C,), dtype of x. The mean is weighted: the sum is divided by the
        sum of the weights of the targets (it is NaN if only classes of weight 0 occur).
    Target and weight are constants: no gradient goes there.

    Returns a Tensor of shape () and the dtype of x; the sum is float64. Raises ValueError or TypeError, naming
    the argument, for what does not fit. Source: Bishop, Pattern Recognition and Machine Learning, 2006, 4.3.4.
    """
    op = "softmax_cross_entropy"
    check_float(op, x=x)
    check_not_empty(op, "x", x)
    target = constant(op, "target", target)
    _check_target(op, target, x)
    target = beside(op, "target", target, x)
    if weight is not None:
        weight = constant(op, "weight", weight)
        check_float(op, x=x, weight=weight)
        if weight.shape != x.shape[-1:]:
            raise ValueError(f"{op}: weight has shape {tuple(weight.shape)}; one for each of {x.shape[-1]} classes")
        weight = beside(op, "weight", weight, x)
    return SoftmaxCrossEntropy.apply(x, target, weight)


def _check_target(op: str, target: Any, x: Any) -> None:
    if x.ndim == 0:
        raise ValueError(f"{op}: x has no axes; the last one is needed for the classes")
    if target.dtype.kind not in "iu":
        raise TypeError(f"{op}: target is {target.dtype}; class indices, integers, are needed")
    if target.shape != x.shape[:-1]:
        raise ValueError(
            f"{op}: target has shape {tuple(target.shape)}; x {tuple(x.shape)} needs class indices of shape "
            f"{tuple(x.shape[:-1])}"
        )
    if device_of(target) == "cpu":
        _check_range(op, target, classes=x.shape[-1])


def _check_range(op: str, target: Any, classes: int) -> None:
    for value in (int(target.min()), int(target.max())):
        if not 0 <= value < classes:
            raise ValueError(f"{op}: target holds class {value}; x has {classes} classes, 0 to {classes - 1}")


class SoftmaxCrossEntropy(Function):
    def forward(self, x, target, weight):
        self.save(x, target, weight)
        return forward(x, target, weight)

    def backward(self, gy):
        return backward(gy, *self.saved), None, None

    def backward_graph(self, gy):
        x, target, weight = self.saved
        is_target = (array_module(target).arange(x.shape[-1]) == target[..., None]).astype(x.dtype)
        factor = gy / total_weight(target, weight).astype(x.dtype)
        gx = (softmax(x, axis=-1) - is_target) * factor
        return gx if weight is None else gx * weight[target][..., None], None, None
