"""The losses as modules: `loss = nn.MSELoss(); loss(prediction, target)`.

reduction: "mean" over all elements, their "sum", or "none": one loss for each. Except for MSELoss, L1Loss and
SmoothL1Loss, targets are constants. The functions say more, and some have no module: `tn.softmax_dice_loss`,
`tn.focal_loss`, `tn.hinge_loss`, `tn.hardest_mean`, `tn.ncc_loss`.
"""

from __future__ import annotations

from typing import Any

from ..engine.arguments import data_of
from ..engine.basic_ops import abs, log, where
from ..engine.tensor import Tensor
from ..ops._composed.losses import smooth_l1_loss
from ..ops._shared.checks import check_float, positive
from ..ops._shared.targets import check_not_empty, check_reduction, check_unit_range, soft_target
from ..ops.bce_with_logits.op import bce_with_logits
from ..ops.dice.op import dice_loss
from ..ops.softmax_cross_entropy.op import softmax_cross_entropy
from .module import Module


class _Elementwise(Module):
    """A loss of each element."""

    def __init__(self, reduction: str = "mean") -> None:
        check_reduction(type(self).__name__, reduction)
        self.reduction = reduction

    def forward(self, x: Tensor, target: Any) -> Tensor:
        name = type(self).__name__
        check_float(name, x=x)
        check_not_empty(name, "x", x)
        shape = getattr(target, "shape", None)
        if shape != x.shape:  # (N, 1) and (N,) would silently broadcast to (N, N)
            given = f"a {type(target).__name__}" if shape is None else f"of shape {tuple(shape)}"
            raise ValueError(f"{name}: target is {given}; an array of the shape of x, {tuple(x.shape)}, is needed")
        losses = self.each(x, target)
        return losses if self.reduction == "none" else losses.mean() if self.reduction == "mean" else losses.sum()

    def each(self, x: Tensor, target: Any) -> Tensor:
        """The loss of each element."""
        raise NotImplementedError


class MSELoss(_Elementwise):
    """Squared error, (x - target)^2, of arrays of one shape. The target may require a gradient."""

    def each(self, x: Tensor, target: Any) -> Tensor:
        return (x - target) ** 2


class L1Loss(_Elementwise):
    """Absolute error, |x - target|, of arrays of one shape. The target may require a gradient."""

    def each(self, x: Tensor, target: Any) -> Tensor:
        return abs(x - target)


class SmoothL1Loss(Module):
    """d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, of d = x - target: `tn.smooth_l1_loss`."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        check_reduction("SmoothL1Loss", reduction)
        self.reduction, self.beta = reduction, positive("SmoothL1Loss", "beta", beta)

    def forward(self, x: Tensor, target: Any) -> Tensor:
        return smooth_l1_loss(x, target, beta=self.beta, reduction=self.reduction)


class BCELoss(_Elementwise):
    """Binary cross-entropy of probabilities x in 0..1, after a sigmoid. BCEWithLogitsLoss is exact near 0 and 1, too.

    The logarithm of 0 counts as -100, as in PyTorch, so that the loss is finite.
    """

    def each(self, x: Tensor, target: Any) -> Tensor:
        check_unit_range("BCELoss", "x", data_of(x), "logits: use BCEWithLogitsLoss")
        t = soft_target("BCELoss", target, "x", x)
        return -(_log(x) * t + _log(1 - x) * (1 - t))


def _log(p: Tensor) -> Tensor:
    return where(data_of(p) == 0, -100.0, log(where(data_of(p) == 0, 1.0, p)))


class BCEWithLogitsLoss(Module):
    """Binary cross-entropy of logits x, before a sigmoid: `tn.bce_with_logits`."""

    def __init__(self, weight: Any = None, pos_weight: float = 1.0, reduction: str = "mean") -> None:
        self.weight = weight
        self.options: dict[str, Any] = {"pos_weight": pos_weight, "reduction": reduction}

    def forward(self, x: Tensor, target: Any) -> Tensor:
        return bce_with_logits(x, target, self.weight, **self.options)


class CrossEntropyLoss(Module):
    """Cross-entropy of logits (..., C), before a softmax, and class indices (...): `tn.softmax_cross_entropy`."""

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction}
        self.weight, self.options = weight, dict[str, Any](options)

    def forward(self, x: Tensor, target: Any) -> Tensor:
        return softmax_cross_entropy(x, target, self.weight, **self.options)


class DiceLoss(Module):
    """Soft Dice loss of probabilities, after a sigmoid: `tn.dice_loss`."""

    def __init__(self, per_image: bool = False, smooth: float = 1.0) -> None:
        self.per_image, self.smooth = per_image, smooth

    def forward(self, p: Tensor, target: Any) -> Tensor:
        return dice_loss(p, target, per_image=self.per_image, smooth=self.smooth)
