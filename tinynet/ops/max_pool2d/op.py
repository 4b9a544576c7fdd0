"""max_pool2d on Tensors: checks the shapes, calls the kernels, and says what is the gradient of what."""

from __future__ import annotations

import math

from ...engine.arguments import no_history
from ...engine.tensor import Function, Tensor
from .._shared.geometry import Geometry, Pair
from .._shared.pooling import checked_windows, extended
from .reference import forward, gather, scatter


def max_pool2d(
    x: Tensor,
    size: int | Pair = 2,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    *,
    return_indices: bool = False,
    ceil_mode: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each window, channels last.

    x: (N, H, W, C), float. size: of the window. stride: between windows, `size` if None. padding: pixels of minus
    infinity on each side, less than size. Each is a number or a pair (y, x).
    Returns (N, OH, OW, C) of the dtype of x, with OH = (H + 2 padding - size) // stride + 1; rows and columns
    that do not fill a window are left out, or with ceil_mode are in a smaller one. A NaN in a window wins. With
    return_indices also an int32 Tensor of the same shape: where in its plane each maximum was found, iy * W + ix, as
    max_unpool2d takes it. A tie goes to the first in row-major order.

    Raises ValueError or TypeError, naming the argument, for shapes or dtypes that do not fit.
    """
    kernel_size, geometry, extra = checked_windows("max_pool2d", x, size, stride, padding, ceil_mode)
    y, indices = MaxPool2d.apply(extended(x, extra, -math.inf), kernel_size=kernel_size, geometry=geometry)
    if extra[1]:  # these indices count in rows that are longer than those of x
        width = x.shape[2]
        indices = no_history(lambda i: i - i // (width + extra[1]) * extra[1], indices)
    return (y, indices) if return_indices else y


def cell_of(kernel_size: Pair, geometry: Geometry) -> Pair | None:
    """The cell of the plane in which each maximum lies alone; None if windows overlap or begin in the padding."""
    (height, width), (sy, sx) = kernel_size, geometry.stride
    return geometry.stride if geometry.padding == (0, 0) and height <= sy and width <= sx else None


# Once the indices are known, pooling is linear: it picks pixels. Its transpose adds to those pixels, and the transpose
# of that picks them again. So these Functions are closed: derivatives of any order need nothing else.


class MaxPool2d(Function):
    """(y, indices); the indices have no gradient."""

    def forward(self, x, *, kernel_size, geometry):
        y, indices = forward(x, kernel_size, geometry)
        self.save(indices)
        self.plane = {"size": x.shape[1:3], "cell": cell_of(kernel_size, geometry)}
        return y, indices

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
