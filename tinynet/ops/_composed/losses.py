"""softmax_dice_loss, smooth_l1_loss, focal_loss, hinge_loss, hardest_mean: losses of a few basic operations each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.arrays import array_module, device_of
from ...engine.arguments import data_of, is_array
from ...engine.basic_ops import abs, clip, exp, flatten, mean, reshape, softmax, sum, transpose
from ...engine.share import sum_over_batch
from ...engine.tensor import Tensor
from .._shared.checks import check_float, positive
from .._shared.targets import beside, check_not_empty, check_reduction, class_indices, constant, soft_target
from ..activations.entries import relu, softplus
from .functions import clone


def softmax_dice_loss(
    x: Tensor,
    target: Any,
    *,
    classes: Sequence[int] | None = None,
    squared: bool = False,
    per_image: bool = False,
    smooth: float = 1.0,
) -> Tensor:
    """Mean over classes of the soft Dice loss 1 - (2 sum p t + smooth) / (sum p + sum t + smooth), p = softmax of x.

    x: logits (before any softmax), float, (N, ..., C). target: class indices, integers in 0 .. C - 1, (N, ...); a
        constant. (One that lies on a GPU is not looked at; an index that is no class is then in no class.)
    classes: the numbers of the classes whose losses are averaged; None: all. (1, 2) leaves the background 0 out.
    squared: sum p^2 + sum t^2 in the denominator, as in V-Net. The gradient of a wrong, nearly certain voxel is larger.
    per_image: one ratio for each class of each image, then the mean; otherwise one for each class of the whole batch.
    smooth: positive; it counts as equal when a class is absent and not predicted.

    Returns a Tensor of shape () and the dtype of x. Raises TypeError or ValueError, naming the argument.
    Source: Milletari et al., V-Net, 3DV 2016, section 3, there for one class and squared.
    """
    op = "softmax_dice_loss"
    check_float(op, x=x)
    check_not_empty(op, "x", x)
    smooth = positive(op, "smooth", smooth)
    indices = class_indices(op, target, x)
    chosen = _checked_classes(op, classes, x.shape[-1])
    if per_image and x.ndim < 2:
        raise ValueError(f"{op}: x has shape {tuple(x.shape)}; per_image needs a first axis of images")
    images, count = x.shape[0] if per_image else 1, x.shape[-1]
    # Classes come first in memory: along a last axis of a few classes, softmax and sums are ten times slower.
    p = softmax(clone(transpose(reshape(x, (images, -1, count)), (2, 0, 1))), axis=0)
    is_class = array_module(indices).arange(count)[:, None, None] == indices.reshape(1, images, -1)
    overlap = sum(p * is_class.astype(x.dtype), -1)
    size = sum(p * p if squared else p, -1) + is_class.sum(-1).astype(x.dtype)
    if not per_image:
        overlap, size = sum_over_batch(overlap), sum_over_batch(size)
    dice = (2 * overlap + smooth) / (size + smooth)  # (C, images)
    return 1 - mean(dice[chosen])


def _checked_classes(op: str, classes: Sequence[int] | None, count: int) -> list[int]:
    if classes is None:
        return list(range(count))
    chosen = list(classes) if isinstance(classes, (Sequence, np.ndarray)) else []
    known = [c for c in chosen if isinstance(c, (int, np.integer)) and 0 <= c < count]
    if not chosen or len(set(known)) < len(chosen):
        raise ValueError(
            f"{op}: classes is {classes!r}; different numbers of the {count} classes, 0 to {count - 1}, are needed"
        )
    return known


def smooth_l1_loss(x: Tensor, target: Any, *, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Smooth L1 loss of d = x - target: d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere.

    x: float, any shape. target: of that shape and dtype; it may require a gradient. beta: positive. reduction: "mean"
    over all elements, their "sum", or "none". Returns the dtype of x. Raises TypeError or ValueError.
    Source: Girshick, Fast R-CNN, ICCV 2015, equation 3, there with beta = 1 and the sum over the four offsets of a box.
    """
    op = "smooth_l1_loss"
    _check_pair(op, x, target, reduction)
    distance = abs(x - target)
    beta = positive(op, "beta", beta, hint=" (for 0 there is nn.L1Loss)")
    near = clip(distance, high=beta)
    return _reduced(near * (distance - 0.5 * near) / beta, reduction)


def focal_loss(
    x: Tensor, target: Any, *, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "mean"
) -> Tensor:
    """Binary focal loss -alpha_t (1 - p_t)^gamma log p_t of logits: cross-entropy in which easy examples count less.

    p_t is the predicted probability, sigmoid(x) where the target is 1 and 1 - sigmoid(x) where it is 0.
    x: logits (before a sigmoid), float, any shape; exact for large |x|, too.
    target: of the shape of x, zeros and ones, in the dtype of x, as booleans or as integers; a constant.
    alpha: the weight of ones; zeros have 1 - alpha. None: no weights. gamma: 0 (cross-entropy) or more.
    reduction: "mean" over all elements, "none", or "sum", which the paper divides by the number of ones.

    Returns the dtype of x. Raises TypeError or ValueError. Source: Lin et al., Focal Loss for Dense Object Detection,
    ICCV 2017, equation 5.
    """
    op = "focal_loss"
    check_float(op, x=x)
    check_not_empty(op, "x", x)
    check_reduction(op, reduction)
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"{op}: alpha is {alpha}; it must lie in 0 <= alpha <= 1, or be None")
    if not gamma >= 0:
        raise ValueError(f"{op}: gamma is {gamma}; it must be at least 0")
    t = soft_target(op, target, "x", x)
    _check_values(op, t, 0, 1, "a probability is no target here")
    wrongness = x * (1 - 2 * t)  # the logit of 1 - p_t
    # (1 - p_t)^gamma as an exponential: the power of a sigmoid that is rounded to 0 may have no finite derivative.
    losses = exp(-gamma * softplus(-wrongness)) * softplus(wrongness)
    return _reduced(losses if alpha is None else losses * (alpha * t + (1 - alpha) * (1 - t)), reduction)


def hinge_loss(x: Tensor, target: Any, *, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """Hinge loss max(0, margin - target x), of scores x and targets -1 or 1: 0 for a right score beyond the margin.

    x: float, any shape. target: of that shape, -1 or 1, in the dtype of x or as integers; a constant. margin: positive.
    reduction: "mean" over all elements, their "sum", or "none". The derivative at the kink is taken to be 0.
    Returns the dtype of x. Raises TypeError or ValueError. Source: Cortes and Vapnik, Support-Vector Networks, 1995.
    """
    op = "hinge_loss"
    t = data_of(target)
    if is_array(t) and t.dtype.kind in "iu":
        target = t.astype(getattr(x, "dtype", np.float32))
    _check_pair(op, x, target, reduction)
    t = beside(op, "target", constant(op, "target", target), x)
    _check_values(op, t, -1, 1, "zeros and ones: 2 * target - 1")
    return _reduced(relu(positive(op, "margin", margin) - x * t), reduction)


def hardest_mean(losses: Tensor, k: int) -> Tensor:
    """The mean of the k largest losses: the hardest examples get a gradient, all others 0.

    losses: float, any shape, such as of a loss with reduction="none". k: from 1 on; if there are fewer than k losses,
    it is the mean of all. A boolean index selects negatives first: hardest_mean(losses[target == 0], 3 * positives).
    Returns a Tensor of shape () and the dtype of the losses. Raises TypeError or ValueError.
    Source: Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016.
    """
    check_float("hardest_mean", losses=losses)
    check_not_empty("hardest_mean", "losses", losses)
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"hardest_mean: k is {k!r}; an integer from 1 on is needed")
    values = flatten(losses)
    if k < values.size:  # NaN counts as largest, so that it is not hidden
        order = array_module(data_of(values)).argpartition(data_of(values), values.size - k)
        values = values[order[values.size - k :]]
    return mean(values)


def _check_pair(op: str, x: Any, target: Any, reduction: str) -> None:
    check_float(op, x=x, target=target)
    check_not_empty(op, "x", x)
    check_reduction(op, reduction)
    if target.shape != x.shape:  # (N, 1) and (N,) would silently broadcast to (N, N)
        raise ValueError(f"{op}: target has shape {tuple(target.shape)}, x has {tuple(x.shape)}; they must agree")


def _check_values(op: str, target: Any, low: int, high: int, advice: str) -> None:
    if device_of(target) == "cpu" and not ((target == low) | (target == high)).all():
        wrong = target[(target != low) & (target != high)].reshape(-1)[0]
        raise ValueError(f"{op}: target holds {wrong}; {low} and {high} are needed ({advice})")


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return losses if reduction == "none" else sum(losses) if reduction == "sum" else mean(losses)
