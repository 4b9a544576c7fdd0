"""Pooling layers and their inverse."""

from __future__ import annotations

from typing import Any

from ..engine.basic_ops import mean
from ..engine.tensor import Tensor
from ..ops._shared.checks import pair
from ..ops.avg_pool2d.op import avg_pool2d
from ..ops.max_pool2d.op import max_pool2d
from ..ops.max_unpool2d.op import max_unpool2d
from .module import Module


class Pooling(Module):
    """What MaxPool2d and AvgPool2d share. stride: by default the window's size."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        name = type(self).__name__
        self.kernel_size = pair(name, "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair(name, "stride", stride, 1)
        self.padding = pair(name, "padding", padding, 0)


class MaxPool2d(Pooling):
    """The largest value of each window: (N, H, W, C) -> (N, H', W', C).

    stride: by default the window's size. return_indices: return (y, indices), which `MaxUnpool2d` needs. ceil_mode:
    rows and columns left over at the end are in a smaller window.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Tensor) -> Any:
        options = {"return_indices": self.return_indices, "ceil_mode": self.ceil_mode}
        return max_pool2d(x, self.kernel_size, self.stride, self.padding, **options)


class AvgPool2d(Pooling):
    """The mean of each window: (N, H, W, C) -> (N, H', W', C).

    stride: by default the window's size. ceil_mode: rows and columns left over at the end are in a smaller window.
    count_include_pad: False leaves the zeros of the padding out of the mean.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 2,
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        options = {"ceil_mode": self.ceil_mode, "count_include_pad": self.count_include_pad}
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding, **options)


class MaxUnpool2d(Module):
    """Put each value back where `MaxPool2d(..., return_indices=True)` found it, zeros elsewhere.

    stride: of the pooling. forward(y, indices, size): y and indices (N, H, W, C); size: (height, width) of the
    result, by default H and W times the stride. If the pooling dropped the last row or column of an odd size, pass the
    size.
    """

    def __init__(self, stride: int | tuple[int, int] = 2) -> None:
        self.stride = pair("MaxUnpool2d", "stride", stride, 1)

    def forward(self, y: Tensor, indices: Any, size: tuple[int, int] | None = None) -> Tensor:
        if size is None:
            size = (y.shape[1] * self.stride[0], y.shape[2] * self.stride[1])
        return max_unpool2d(y, indices, size=size)


class GlobalAvgPool2d(Module):
    """The mean of each channel over the whole image: (N, H, W, C) -> (N, C), for any H and W.

    Lin et al., Network In Network, 2014, section 3.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            raise ValueError(f"GlobalAvgPool2d: x has shape {tuple(x.shape)}; 4 axes (N, H, W, C) are needed")
        return mean(x, (1, 2))
