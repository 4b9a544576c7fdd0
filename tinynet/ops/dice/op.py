"""The soft Dice loss on Tensors."""

from __future__ import annotations

from typing import Any

from ...backends.arrays import device_of
from ...backends.devices import to_device
from ...engine import share
from ...engine.arguments import data_of
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .._shared.targets import check_not_empty, check_unit_range, soft_target
from .formula import loss_of
from .reference import backward, forward


def dice_loss(p: Tensor, target: Any, *, per_image: bool = False, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss 1 - (2 sum p t + smooth) / (sum p + sum t + smooth), 0 for equal masks, near 1 for disjoint ones.

    p: probabilities in 0..1 (after a sigmoid), float, any shape; per_image takes the first axis for the images.
    target: array or Tensor of the same shape with values in 0..1: the dtype of p, booleans or integers. It is
        a constant: no gradient goes there. (One that lies on a GPU is not looked at.)
    per_image: the mean of one loss for each image instead of one ratio over the whole batch. For a loss for
        each channel, call it on slices.
    smooth: positive; what counts as equal when nothing is there and nothing is predicted.

    Returns a Tensor of shape () and the dtype of p; the sums are float64. Raises ValueError or TypeError, naming
    the argument, for what does not fit. Source: Milletari et al., V-Net, 3DV 2016, section 3, without squares.
    """
    check_float("dice_loss", p=p)
    check_not_empty("dice_loss", "p", p)
    if not smooth > 0:
        raise ValueError(f"dice_loss: smooth is {smooth}; it must be positive")
    if per_image and p.ndim == 0:
        raise ValueError("dice_loss: p has no axes; per_image needs a first axis of images")
    # A softmax may exceed 1 by its rounding errors.
    check_unit_range("dice_loss", "p", data_of(p), "logits: apply tn.sigmoid first", tolerance=1e-3)
    target = soft_target("dice_loss", target, "p", p)
    return Dice.apply(p, target, per_image=per_image, smooth=float(smooth))


class Dice(Function):
    """loss of p; the target is a constant."""

    def forward(self, p, target, *, per_image, smooth):
        loss, sums = forward(p, target, smooth=smooth, per_image=per_image)
        self.share = share.WHOLE if per_image else share.current()
        if not self.share.is_whole:
            sums = self.share.sum(sums)
            loss = to_device(loss_of(to_device(sums, "cpu"), smooth).astype(p.dtype), device_of(p))
        self.save(p, target, sums)
        self.smooth = smooth
        return loss

    def backward(self, gy):
        _, target, sums = self.saved
        # Every part computes this same loss. It counts with the part's weight, so gy is too small by that factor.
        gy = gy if self.share.is_whole else gy / gy.dtype.type(self.share.weight)
        return backward(gy, target, sums, smooth=self.smooth), None

    def backward_graph(self, gy):
        """The sums are computed again: they depend on p."""
        self.share.refuse_second_derivatives("dice_loss")
        p, target, sums = self.saved
        groups = len(sums)
        t = target.reshape(groups, -1)
        p_in_groups = p.reshape(groups, -1)
        overlap = (p_in_groups * t).sum(axis=1, keepdims=True)
        size = p_in_groups.sum(axis=1, keepdims=True) + t.sum(axis=1, keepdims=True) + self.smooth
        per_pixel = (2 * overlap + self.smooth) / size**2 - 2 * t / size
        return (gy * per_pixel / groups).reshape(p.shape), None
