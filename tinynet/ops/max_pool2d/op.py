"""max_pool2d on Tensors: checks the shapes, calls the kernels, and says what is the gradient of what."""

from __future__ import annotations

from ...backends.memory import named_error
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim, pair
from .._shared.geometry import Geometry, Pair
from .reference import forward, gather, scatter


def max_pool2d(
    x: Tensor,
    size: int | Pair = 2,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    *,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each window, channels last.

    x: (N, H, W, C), float. size: of the window. stride: between windows, `size` if None. padding: pixels of minus
    infinity on each side, less than size. Each is a number or a pair (y, x).
    Returns (N, OH, OW, C) of the dtype of x, with OH = (H + 2 padding - size) // stride + 1; rows and columns
    that do not fill a window are left out. A NaN in a window wins. With return_indices also an int32 Tensor of the
    same shape: where in its plane each maximum was found, iy * W + ix, as max_unpool2d takes it. A tie goes to the
    first in row-major order.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    """
    size = pair("max_pool2d", "size", size, 1)
    stride = size if stride is None else pair("max_pool2d", "stride", stride, 1)
    padding = pair("max_pool2d", "padding", padding, 0)
    check_float("max_pool2d", x=x)
    check_ndim("max_pool2d", "x", x, 4, "(N, H, W, C)")
    if padding[0] >= size[0] or padding[1] >= size[1]:
        raise ValueError(
            f"max_pool2d: padding {padding} must be less than size {size}, or windows would hold padding only"
        )
    if min(Geometry(stride, padding).output_size(x.shape[1:3], size)) < 1 or 0 in x.shape[1:3]:
        raise ValueError(f"max_pool2d: size {size} is larger than x {tuple(x.shape)} with padding {padding}")

    array = x.data if isinstance(x, Tensor) else x
    try:
        maxima, indices = forward(array, size=size, stride=stride, padding=padding)
    except MemoryError as error:  # outside of a Function, which would name the operation
        raise named_error("max_pool2d", error) from None
    # Windows that do not overlap, the first in the corner: each maximum lies in a cell of its own.
    apart = padding == (0, 0) and size[0] <= stride[0] and size[1] <= stride[1]
    y = MaxPool2d.apply(x, maxima=maxima, indices=indices, cell=stride if apart else None)
    if not return_indices:
        return y
    return y, Tensor(indices) if isinstance(x, Tensor) else indices


# Once the indices are known, pooling is linear: it picks pixels. Its transpose adds to those pixels, and the
# transpose of that picks them again. So these Functions are closed: derivatives of any order need nothing else.


class MaxPool2d(Function):
    """y = the pixels of x at the indices of the maxima, which forward found together with the maxima."""

    def forward(self, x, *, maxima, indices, cell):
        self.save(indices)
        self.plane = {"size": x.shape[1:3], "cell": cell}
        return maxima

    def backward(self, gy):
        (indices,) = self.saved
        return Scatter.apply(gy, indices, **self.plane)


class Scatter(Function):
    """gx of gy: every gradient goes to the pixel that was the maximum."""

    def forward(self, gy, indices, *, size, cell):
        self.save(indices)
        self.cell = cell
        return scatter(gy, indices, size=size, cell=cell)

    def backward(self, ggx):
        (indices,) = self.saved
        return Gather.apply(ggx, indices, cell=self.cell), None


class Gather(Function):
    """The pixels of x at the indices."""

    def forward(self, x, indices, *, cell):
        self.save(indices)
        self.plane = {"size": x.shape[1:3], "cell": cell}
        return gather(x, indices)

    def backward(self, gy):
        (indices,) = self.saved
        return Scatter.apply(gy, indices, **self.plane), None
