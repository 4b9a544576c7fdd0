"""The layers for volumes: activations are (N, D, H, W, C), and a triple of numbers is (depth, height, width)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..ops._shared.checks import integers
from ..ops._shared.geometry import Triple
from ..ops.avg_pool2d.volumes import avg_pool3d
from ..ops.conv3d.op import conv3d, conv_transpose3d
from ..ops.max_pool2d.volumes import max_pool3d
from .init import glorot_uniform, he_normal
from .layers import check_channels
from .module import Module, Parameter

AXES = "(z, y, x)"


class Conv3d(Module):
    """3-D convolution (cross-correlation): x (N, D, H, W, in_channels) -> (N, D', H', W', out_channels).

    weight: (KD, KH, KW, in_channels / groups, out_channels), drawn by `init`; bias: (out_channels,), zeros.
    D' = (D + 2 padding - dilation (KD - 1) - 1) // stride + 1, and H' and W' likewise.
    Raises ValueError if the numbers of channels are not positive multiples of groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Triple,
        stride: int | Triple = 1,
        padding: int | Triple = 0,
        dilation: int | Triple = 1,
        groups: int = 1,
        bias: bool = True,
        init: Callable[..., np.ndarray] = he_normal,
    ) -> None:
        check_channels("Conv3d", in_channels, out_channels, groups)
        size = integers("Conv3d", "kernel_size", kernel_size, 1, AXES)
        self.geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.weight = Parameter(init((*size, in_channels // groups, out_channels), groups=groups))
        self.bias = Parameter(np.zeros(out_channels, dtype=np.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return conv3d(x, self.weight, self.bias, **self.geometry)


class ConvTranspose3d(Module):
    """Transposed 3-D convolution: x (N, D, H, W, in_channels) -> (N, D', H', W', out_channels).

    weight: (KD, KH, KW, out_channels, in_channels), drawn by `init`; bias: (out_channels,), zeros.
    D' = (D - 1) stride - 2 padding + KD + output_padding, and H' and W' likewise.
    Raises ValueError if the numbers of channels are not positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Triple,
        stride: int | Triple = 1,
        padding: int | Triple = 0,
        output_padding: int | Triple = 0,
        bias: bool = True,
        init: Callable[..., np.ndarray] = glorot_uniform,
    ) -> None:
        check_channels("ConvTranspose3d", in_channels, out_channels, groups=1)
        size = integers("ConvTranspose3d", "kernel_size", kernel_size, 1, AXES)
        self.geometry: dict[str, Any] = {"stride": stride, "padding": padding, "output_padding": output_padding}
        self.weight = Parameter(init((*size, out_channels, in_channels), transposed=True))
        self.bias = Parameter(np.zeros(out_channels, dtype=np.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return conv_transpose3d(x, self.weight, self.bias, **self.geometry)


class _Pooling3d(Module):
    """stride: by default the window's size."""

    def __init__(self, kernel_size: int | Triple = 2, stride: int | Triple | None = None, padding: int | Triple = 0):
        self.windows = kernel_size, stride, padding


class MaxPool3d(_Pooling3d):
    """The largest value of each window: (N, D, H, W, C) -> (N, D', H', W', C)."""

    def forward(self, x: Tensor) -> Tensor:
        return max_pool3d(x, *self.windows)


class AvgPool3d(_Pooling3d):
    """The mean of each window: (N, D, H, W, C) -> (N, D', H', W', C). Padding counts as zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool3d(x, *self.windows)
