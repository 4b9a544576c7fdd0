"""resize2d and resize3d on Tensors: one axis after the other, and what is the gradient of what."""

from __future__ import annotations

import math

from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim, integers
from .._shared.geometry import Pair, Triple
from .positions import MODES
from .reference import backward, forward


def resize2d(x: Tensor, size: int | Pair, mode: str = "linear") -> Tensor:
    """Images in another size, channels last.

    x: (N, H, W, C), float. size: (H', W') of the result, or a number for both. mode: 'linear' (bilinear
    interpolation) or 'nearest'. Old and new pixels cover the same area: the corners of the image stay where they are
    (PyTorch's `align_corners=False` and its mode `nearest-exact`; scipy.ndimage.zoom with `grid_mode=True` and
    `mode='nearest'`). When an image shrinks, nothing is averaged: blur it first, or fine detail turns into patterns.
    Returns (N, H', W', C) of the dtype of x.

    Raises ValueError or TypeError, naming the argument, for shapes, dtypes or modes that do not fit.
    """
    return _resize("resize2d", x, size, mode, "(y, x)", "(N, H, W, C)")


def resize3d(x: Tensor, size: int | Triple, mode: str = "linear") -> Tensor:
    """Volumes (N, D, H, W, C) in another size (D', H', W'), channels last; see `resize2d`."""
    return _resize("resize3d", x, size, mode, "(z, y, x)", "(N, D, H, W, C)")


def _resize(name: str, x: Tensor, size: int | tuple[int, ...], mode: str, axes: str, layout: str) -> Tensor:
    check_float(name, x=x)
    check_ndim(name, "x", x, layout.count(",") + 1, layout)
    size = integers(name, "size", size, 1, axes)
    if mode not in MODES:
        raise ValueError(f"{name}: mode is {mode!r}; it must be one of {', '.join(MODES)}")
    if 0 in x.shape[1:-1]:
        raise ValueError(f"{name}: x has shape {tuple(x.shape)}; an empty image has nothing to interpolate")
    # The axes that shrink come first: the others then have less to do.
    for axis in sorted(range(1, x.ndim - 1), key=lambda axis: size[axis - 1] / x.shape[axis]):
        if x.shape[axis] != size[axis - 1]:
            before, after = x.shape[:axis], x.shape[axis + 1 :]
            y = Resize.apply(
                x.reshape(math.prod(before), x.shape[axis], math.prod(after)), size=size[axis - 1], mode=mode
            )
            x = y.reshape(*before, size[axis - 1], *after)
    return x


# Linear in x: the gradient is the transpose, and the transpose of the transpose is the resizing again.


class Resize(Function):
    """y (A, m, B) of x (A, n, B)."""

    def forward(self, x, *, size, mode):
        self.size, self.mode = x.shape[1], mode
        return forward(x, size, mode)

    def backward(self, gy):
        return Transpose.apply(gy, size=self.size, mode=self.mode)


class Transpose(Function):
    """gx of gy."""

    def forward(self, gy, *, size, mode):
        self.size, self.mode = gy.shape[1], mode
        return backward(gy, size, mode)

    def backward(self, ggx):
        return Resize.apply(ggx, size=self.size, mode=self.mode)
