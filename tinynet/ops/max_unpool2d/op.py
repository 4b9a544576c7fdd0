"""max_unpool2d on Tensors."""

from __future__ import annotations

from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim, pair
from .._shared.geometry import Pair
from .reference import backward, forward


def max_unpool2d(y: Tensor, indices: Tensor, size: int | Pair) -> Tensor:
    """Put each value back where its maximum was found; zeros elsewhere. The transpose of max_pool2d.

    y: (N, OH, OW, C), float. indices: int32, the shape of y, from max_pool2d(..., return_indices=True): the pixel
    iy * W + ix in the plane of its image and channel. size: (H, W) of the result.
    Returns (N, H, W, C) of the dtype of y. Values that meet in one pixel are added.

    Raises TypeError or ValueError, naming the argument, for dtypes, shapes or indices that do not fit.
    Source: Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 2.1.
    """
    size = pair("max_unpool2d", "size", size, 1)
    check_float("max_unpool2d", y=y)
    check_ndim("max_unpool2d", "y", y, 4, "(N, OH, OW, C)")
    where = indices.data if isinstance(indices, Tensor) else indices
    if getattr(where, "dtype", None) != "int32":
        kind = getattr(where, "dtype", type(where).__name__)
        raise TypeError(f"max_unpool2d: indices has dtype {kind}; int32 is needed, as max_pool2d returns it")
    if where.shape != y.shape:
        raise ValueError(f"max_unpool2d: indices {where.shape} must have the shape of y {tuple(y.shape)}")
    if where.size and not (where.min() >= 0 and where.max() < size[0] * size[1]):
        raise ValueError(
            f"max_unpool2d: indices go from {where.min()} to {where.max()}; "
            f"a plane of size {size} has 0 to {size[0] * size[1] - 1}"
        )
    return MaxUnpool2d.apply(y, where, size=size)


# Adding to the indexed pixels and picking them are each other's transpose: closed under differentiation.


class MaxUnpool2d(Function):
    """x = y scattered to the pixels of its indices."""

    def forward(self, y, indices, *, size):
        self.save(indices)
        return forward(y, indices, size=size)

    def backward(self, gx):
        (indices,) = self.saved
        return Backward.apply(gx, indices), None


class Backward(Function):
    """gy of gx: the pixels at the indices."""

    def forward(self, gx, indices):
        self.save(indices)
        self.size = gx.shape[1:3]
        return backward(gx, indices)

    def backward(self, ggy):
        (indices,) = self.saved
        return MaxUnpool2d.apply(ggy, indices, size=self.size), None
