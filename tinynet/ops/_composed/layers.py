"""group_norm: a function of a layer that a few other operations compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...engine.arguments import data_of
from ...engine.basic_ops import broadcast_to, reshape, transpose
from ...engine.tensor import Tensor
from .._shared.checks import check_float, positive
from ..batch_norm.op import batch_norm


def group_norm(x: Tensor, gamma: Any = None, beta: Any = None, *, groups: int, eps: float = 1e-5) -> Tensor:
    """gamma (x - mean) / sqrt(var + eps) + beta, with mean and variance of each group of channels of each image.

    x: (N, ..., C), float: images (N, H, W, C), volumes (N, D, H, W, C) or samples (N, C). groups: a divisor of C; a
        group is C / groups neighboring channels. With groups = C it is instance normalization, with groups = 1 layer
        normalization over all axes but the first. Each group needs at least two values in an image.
    gamma, beta: (C,), the dtype of x; None stands for ones and zeros. eps: positive.
    Returns the shape and dtype of x. No image influences another one, and training and inference agree.
    Raises TypeError or ValueError. Source: Wu and He, Group Normalization, ECCV 2018, section 3; Ulyanov et al.,
    Instance Normalization, 2016.
    """
    given = {name: array for name, array in (("gamma", gamma), ("beta", beta)) if array is not None}
    check_float("group_norm", x=x, **given)
    _check_groups(x, groups, given)
    eps = positive("group_norm", "eps", eps)
    batch, channels = x.shape[0], x.shape[-1]
    xp = array_module(data_of(x))
    # It is batch_norm with each (image, group) as a channel: rows (values of a group, N * groups). If N or the size of
    # a group is 1, the transposition only removes axes of length 1.
    split = reshape(x, (batch, -1, groups, channels // groups))
    rows = reshape(transpose(split, (1, 3, 0, 2)), (-1, batch * groups))
    one, zero = xp.ones(batch * groups, x.dtype), xp.zeros(batch * groups, x.dtype)
    if groups == channels:  # then gamma and beta are constant in a group, and batch_norm can apply them
        one, zero = (
            reshape(broadcast_to(given.pop(name), (batch, groups)), (-1,)) if name in given else default
            for name, default in (("gamma", one), ("beta", zero))
        )
    normal = reshape(batch_norm(rows, one, zero, eps=eps), (-1, channels // groups, batch, groups))
    y = reshape(transpose(normal, (2, 0, 3, 1)), x.shape)
    y = y * given["gamma"] if "gamma" in given else y
    return y + given["beta"] if "beta" in given else y


def _check_groups(x: Any, groups: int, per_channel: dict[str, Any]) -> None:
    shape = tuple(x.shape)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"group_norm: x has shape {shape}; (N, ..., C) with at least one element is needed")
    if not isinstance(groups, (int, np.integer)) or groups < 1 or shape[-1] % groups:
        raise ValueError(
            f"group_norm: groups is {groups}; a divisor of the {shape[-1]} channels of x {shape} is needed"
        )
    if x.size == shape[0] * groups:
        raise ValueError(f"group_norm: x {shape} has one value in each of {groups} groups; a variance needs two")
    for name, array in per_channel.items():
        if tuple(array.shape) != shape[-1:]:
            raise ValueError(
                f"group_norm: {name} has shape {tuple(array.shape)}; x {shape} needs one number for each of its "
                f"{shape[-1]} channels"
            )
