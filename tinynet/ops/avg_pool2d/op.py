"""avg_pool2d on Tensors: checks the shapes, calls the kernels, and says what is the gradient of what."""

from __future__ import annotations

from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim, pair
from .._shared.geometry import Geometry, Pair
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
    size = pair("avg_pool2d", "size", size, 1)
    stride = size if stride is None else pair("avg_pool2d", "stride", stride, 1)
    padding = pair("avg_pool2d", "padding", padding, 0)
    check_float("avg_pool2d", x=x)
    check_ndim("avg_pool2d", "x", x, 4, "(N, H, W, C)")
    if padding[0] >= size[0] or padding[1] >= size[1]:
        raise ValueError(
            f"avg_pool2d: padding {padding} must be less than size {size}, or windows would hold padding only"
        )
    if min(Geometry(stride, padding).output_size(x.shape[1:3], size)) < 1 or 0 in x.shape[1:3]:
        raise ValueError(f"avg_pool2d: size {size} is larger than x {tuple(x.shape)} with padding {padding}")
    return AvgPool2d.apply(x, windows={"size": size, "stride": stride, "padding": padding})


# Linear, so its gradient is its transpose, and the gradient of that the pooling again: closed under differentiation.


class AvgPool2d(Function):
    def forward(self, x, *, windows):
        self.plane, self.windows = x.shape[1:3], windows
        return forward(x, **windows)

    def backward(self, gy):
        return Transpose.apply(gy, plane=self.plane, windows=self.windows)


class Transpose(Function):
    """gx of gy."""

    def forward(self, gy, *, plane, windows):
        self.windows = windows
        return backward(gy, plane=plane, **windows)

    def backward(self, ggx):
        return AvgPool2d.apply(ggx, windows=self.windows)
