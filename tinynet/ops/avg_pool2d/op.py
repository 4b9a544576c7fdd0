"""avg_pool2d on Tensors: checks the shapes, calls the kernels, and says what is the gradient of what."""

from __future__ import annotations

from ...engine.tensor import Function, Tensor
from .._shared.geometry import Pair
from .._shared.pooling import checked_windows
from .reference import backward, forward


def avg_pool2d(x: Tensor, size: int | Pair = 2, stride: int | Pair | None = None, padding: int | Pair = 0) -> Tensor:
    """The mean of each window, channels last.

    x: (N, H, W, C), float. size: of the window. stride: between windows, `size` if None. padding: pixels of zeros on
    each side, less than size; they count in the mean, as by default in PyTorch. Each is a number or a pair (y, x).
    Returns (N, OH, OW, C) of the dtype of x, with OH = (H + 2 padding - size) // stride + 1; rows and columns
    that do not fill a window are left out.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    Source: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998, section II B.
    """
    kernel_size, geometry = checked_windows("avg_pool2d", x, size, stride, padding)
    return AvgPool2d.apply(x, kernel_size=kernel_size, geometry=geometry)


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
