"""GroupNorm and InstanceNorm: layers that normalize each image on its own, for images and for volumes."""

from __future__ import annotations

import numpy as np

from ..engine.tensor import Tensor
from ..ops._composed.layers import group_norm
from .layers import check_channels
from .module import Module, Parameter


class GroupNorm(Module):
    """Bring each group of channels of each image to mean 0 and variance 1, then multiply by gamma and add beta.

    x: (N, H, W, channels), (N, D, H, W, channels) or (N, channels). groups: a divisor of channels; a group is
    channels / groups neighboring channels. gamma: (channels,), ones; beta: (channels,), zeros; with affine=False both
    are None. Training and evaluation mode agree, and the layer works with a batch of one image.
    Wu and He, Group Normalization, 2018. Raises ValueError unless groups divides channels.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        check_channels(type(self).__name__, channels, channels, groups)
        self.groups, self.channels, self.eps = groups, channels, eps
        self.gamma = Parameter(np.ones(channels, dtype=np.float32)) if affine else None
        self.beta = Parameter(np.zeros(channels, dtype=np.float32)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != self.channels:
            raise ValueError(
                f"{type(self).__name__}: x has shape {tuple(x.shape)}; {self.channels} channels on the last axis are "
                "needed"
            )
        return group_norm(x, self.gamma, self.beta, groups=self.groups, eps=self.eps)


class InstanceNorm(GroupNorm):
    """Bring each channel of each image to mean 0 and variance 1: GroupNorm with one channel in a group.

    x: (N, H, W, channels) or (N, D, H, W, channels). affine=True: then multiply by gamma and add beta, (channels,).
    Ulyanov et al., Instance Normalization, 2016.
    """

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = False) -> None:
        super().__init__(channels, channels, eps, affine)
