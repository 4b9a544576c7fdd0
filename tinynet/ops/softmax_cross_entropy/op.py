"""Softmax cross-entropy on Tensors."""

from __future__ import annotations

from typing import Any

from ...backends.arrays import array_module, device_of
from ...engine import share
from ...engine.basic_ops import log_softmax, softmax, where
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .._shared.targets import beside, check_not_empty, check_reduction, class_indices, constant
from .formula import total_weight
from .reference import backward, forward


def softmax_cross_entropy(
    x: Tensor,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Mean cross-entropy between the softmax of x over its last axis and classes given as indices.

    x: logits (before any softmax), float, (..., C): (N, C) for images, (N, H, W, C) for pixels.
    target: integers in 0 .. C - 1, of the shape of x without its last axis. A class that does not exist is refused in
        a NumPy array; one that lies on a GPU is not looked at, and the loss is then NaN.
    weight: None, or a factor for each class, (C,), dtype of x. The mean is weighted: the sum is divided by the
        sum of the weights of the targets (it is NaN if only classes of weight 0 occur).
    ignore_index: a target that does not count, such as 255 for unlabeled pixels; their logits get the gradient 0.
    label_smoothing: this share of each target is spread evenly over all classes, 0 <= share <= 1.
    reduction: "mean", "sum", or "none": one loss for each target, 0 where it is ignored.
    Target and weight are constants: no gradient goes there.

    Returns a Tensor of shape () and the dtype of x; the sum is float64. Raises ValueError or TypeError, naming
    the argument, for what does not fit. Source: Bishop, Pattern Recognition and Machine Learning, 2006, 4.3.4.
    """
    op = "softmax_cross_entropy"
    check_float(op, x=x)
    check_not_empty(op, "x", x)
    check_reduction(op, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing is {label_smoothing}; it must lie in 0 <= label_smoothing <= 1")
    target, counts = _checked_target(op, target, x, ignore_index, reduction)
    weight = None if weight is None else _checked_weight(op, weight, x)
    is_plain_mean = counts is None and label_smoothing == 0 and reduction == "mean"
    if is_plain_mean and (weight is None or share.current().is_whole):
        return SoftmaxCrossEntropy.apply(x, target, weight)
    return _composed(x, target, weight, counts, label_smoothing, reduction)


def _composed(x: Any, target: Any, weight: Any, counts: Any, smoothing: float, reduction: str) -> Tensor:
    """The loss in basic operations, for the options that the kernel lacks. counts: booleans, or None for all."""
    xp = array_module(target)
    weight = xp.ones(x.shape[-1], x.dtype) if weight is None else weight
    exists = (target >= 0) & (target < x.shape[-1])  # on a GPU nothing has checked it: the loss is NaN, as the kernel's
    target = target * exists
    of_target = xp.where(exists, weight[target], x.dtype.type("nan"))
    if counts is not None:
        of_target = of_target * counts
        x = where(counts[..., None], x, 0.0)  # if an ignored logit is NaN, its gradient is 0 even so
    log_p = log_softmax(x, axis=-1)
    rows = log_p.reshape(-1, x.shape[-1])[xp.arange(target.size), target.reshape(-1)].reshape(target.shape)
    losses = rows * -of_target
    if smoothing:
        spread = -(log_p * weight).mean(axis=-1)
        losses = (1 - smoothing) * losses + smoothing * (spread if counts is None else spread * counts)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    part = share.current()  # the mean of a part counts with its weight: so does its divisor, the weights of the batch
    return losses.sum() / (part.sum(of_target.sum(dtype="float64")) * part.weight).astype(x.dtype)


def _checked_target(op: str, target: Any, x: Any, ignore_index: int | None, reduction: str) -> tuple[Any, Any]:
    """(class indices, 0 where they are ignored; booleans, which of them count, or None for all), on the device of x."""
    advice = "; ignore_index={} would leave it out"
    if ignore_index is None:
        return class_indices(op, target, x, advice), None
    target = constant(op, "target", target)
    counts = target != ignore_index
    indices = class_indices(op, array_module(target).where(counts, target, 0), x, advice)
    divides_by_count = reduction == "mean" and share.current().is_whole  # other parts may have targets that count
    if device_of(target) == "cpu" and not counts.any() and divides_by_count:
        raise ValueError(f"{op}: every target is ignore_index {ignore_index}; a mean needs at least one other")
    return indices, beside(op, "target", counts, x)


def _checked_weight(op: str, weight: Any, x: Any) -> Any:
    weight = constant(op, "weight", weight)
    check_float(op, x=x, weight=weight)
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"{op}: weight has shape {tuple(weight.shape)}; one for each of {x.shape[-1]} classes")
    return beside(op, "weight", weight, x)


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
