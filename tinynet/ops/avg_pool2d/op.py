"""avg_pool2d on Tensors: checks the shapes, calls the kernels, and says what is the gradient of what."""

from __future__ import annotations

import numpy as np

from ...backends.arrays import device_of
from ...backends.devices import to_device
from ...engine.arguments import data_of
from ...engine.tensor import Function, Tensor
from .._shared.geometry import Pair
from .._shared.pooling import checked_windows, extended
from .reference import backward, forward


def avg_pool2d(
    x: Tensor,
    size: int | Pair = 2,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window, channels last.

    x: (N, H, W, C), float. size: of the window. stride: between windows, `size` if None. padding: pixels of zeros on
    each side, less than size; with count_include_pad they count in the mean. Each is a number or a pair (y, x).
    Returns (N, OH, OW, C) of the dtype of x, with OH = (H + 2 padding - size) // stride + 1; rows and columns
    that do not fill a window are left out, or with ceil_mode are in a smaller one.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    Source: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998, section II B.
    """
    kernel_size, geometry, extra = checked_windows("avg_pool2d", x, size, stride, padding, ceil_mode)
    y = AvgPool2d.apply(extended(x, extra, 0.0), kernel_size=kernel_size, geometry=geometry)
    if count_include_pad and not any(extra):
        return y
    (py, px), counts = geometry.padding, float(count_include_pad)
    counted = np.pad(np.ones(x.shape[1:3], x.dtype), ((py, py), (px, px)), constant_values=counts)
    plane = extended(to_device(counted[None, :, :, None], device_of(data_of(x))), extra)
    return y / forward(plane, kernel_size, geometry._replace(padding=(0, 0)))


# Linear, so the gradient is the transpose, and the gradient of the transpose is the pooling again: closed under
# differentiation.


class AvgPool2d(Function):
    def forward(self, x, *, kernel_size, geometry):
        self.input_size, self.windows = x.shape[1:3], {"kernel_size": kernel_size, "geometry": geometry}
        return forward(x, kernel_size, geometry)

    def backward(self, gy):
        return Transpose.apply(gy, input_size=self.input_size, **self.windows)


class Transpose(Function):
    """gx of gy."""

    def forward(self, gy, *, input_size, kernel_size, geometry):
        self.windows = {"kernel_size": kernel_size, "geometry": geometry}
        return backward(gy, input_size, kernel_size, geometry)

    def backward(self, ggx):
        return AvgPool2d.apply(ggx, **self.windows)
