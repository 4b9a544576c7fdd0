"""Binary cross-entropy with logits on Tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .._shared.targets import beside, check_not_empty, check_reduction, constant, soft_target
from ..activations.entries import sigmoid, softplus
from .reference import backward, forward


def bce_with_logits(
    x: Tensor, target: Any, weight: Any = None, *, pos_weight: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Mean binary cross-entropy between the probabilities sigmoid(x) and the target, stable for large |x|.

    x: logits (before any sigmoid), float, any shape.
    target: array or Tensor of the same shape with values in 0..1: the dtype of x, booleans or integers.
        (One that lies on a GPU is not looked at.)
    weight: None, or factors for the elements, such as a weight map (N, H, W, 1); any shape that broadcasts to
        that of x. The weighted sum is divided by the number of elements, not by the sum of the weights.
    pos_weight: positive factor for the part of the target that is 1, for positives that are rare.
    reduction: "mean", "sum" of the elements, or "none": the loss of each element, of the shape of x.
    Target and weight are constants: no gradient goes there.

    Returns a Tensor of shape () and the dtype of x; the sum is float64. Raises ValueError or TypeError, naming
    the argument, for what does not fit. Source: Bishop, Pattern Recognition and Machine Learning, 2006, 4.3.2.
    """
    check_float("bce_with_logits", x=x)
    check_not_empty("bce_with_logits", "x", x)
    check_reduction("bce_with_logits", reduction)
    if not (isinstance(pos_weight, (int, float, np.number)) and pos_weight > 0):
        raise ValueError(f"bce_with_logits: pos_weight is {pos_weight}; it must be a positive number")
    target = soft_target("bce_with_logits", target, "x", x)
    weight = None if weight is None else _weight_like(x, weight)
    if reduction == "none":
        losses = softplus(-x) * (pos_weight * target) + softplus(x) * (1 - target)
        return losses if weight is None else losses * weight
    mean = BceWithLogits.apply(x, target, weight, pos_weight=float(pos_weight))
    return mean if reduction == "mean" else mean * x.size


def _weight_like(x: Any, weight: Any) -> Any:
    """The weight as an array of the shape and dtype of x."""
    weight = constant("bce_with_logits", "weight", weight)
    check_float("bce_with_logits", x=x, weight=weight)
    weight = beside("bce_with_logits", "weight", weight, x)
    try:
        return array_module(weight).broadcast_to(weight, x.shape)
    except ValueError:
        raise ValueError(
            f"bce_with_logits: weight has shape {tuple(weight.shape)}, which does not broadcast to "
            f"that of x, {tuple(x.shape)}"
        ) from None


class BceWithLogits(Function):
    def forward(self, x, target, weight, *, pos_weight):
        self.save(x, target, weight)
        self.pos_weight = pos_weight
        return forward(x, target, weight, pos_weight=pos_weight)

    def backward(self, gy):
        x, t, w = self.saved
        return backward(gy, x, t, w, pos_weight=self.pos_weight), None, None

    def backward_graph(self, gy):
        x, t, w = self.saved
        derivative = (1 - t) * sigmoid(x) - self.pos_weight * t * sigmoid(-x)
        return gy / x.size * derivative * (1.0 if w is None else w), None, None
