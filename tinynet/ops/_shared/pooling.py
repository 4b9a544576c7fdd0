"""What the two poolings share: the checks of their arguments, and the configurations that their cases.py check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...engine.basic_ops import pad
from .checks import check_float, check_ndim, integers, pair
from .geometry import Geometry, Pair, Triple


def checked_windows(
    op: str, x: Any, size: int | Pair, stride: int | Pair | None, padding: int | Pair, ceil_mode: bool = False
) -> tuple[Pair, Geometry, Pair]:
    """(kernel_size, geometry, extra) of the windows over x.

    extra: rows and columns to add to the end of x so that with ceil_mode the last window is whole; otherwise (0, 0).
    Raises ValueError or TypeError for arguments that do not fit.
    """
    size = pair(op, "size", size, 1)
    geometry = Geometry(
        stride=size if stride is None else pair(op, "stride", stride, 1), padding=pair(op, "padding", padding, 0)
    )
    check_float(op, x=x)
    check_ndim(op, "x", x, 4, "(N, H, W, C)")
    padding = geometry.padding
    if padding[0] >= size[0] or padding[1] >= size[1]:
        raise ValueError(f"{op}: padding {padding} must be less than size {size}, or windows would hold padding only")
    extra = (0, 0)
    if ceil_mode:
        axes = list(zip(x.shape[1:3], size, geometry.stride, padding))
        extra = _extra(*axes[0]), _extra(*axes[1])
    padded = x.shape[1] + extra[0], x.shape[2] + extra[1]
    if min(geometry.output_size(padded, size)) < 1 or 0 in x.shape[1:3]:
        raise ValueError(f"{op}: size {size} is larger than x {tuple(x.shape)} with padding {padding}")
    return size, geometry, extra


def _extra(length: int, size: int, stride: int, padding: int) -> int:
    """How far the last window reaches beyond the padding, if it begins inside of the image or of the first padding."""
    windows = -((size - length - 2 * padding) // stride) + 1
    if (windows - 1) * stride >= length + padding:
        windows -= 1
    return max(0, (windows - 1) * stride + size - length - 2 * padding)


def extended(x: Any, extra: Pair, value: float = 0.0) -> Any:
    """x with rows and columns of `value` at its end."""
    return pad(x, ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)), value)


def over_volumes(
    op: str, pool: Callable, x: Any, size: int | Triple, stride: int | Triple | None, padding: int | Triple
) -> Any:
    """Pool a volume (N, D, H, W, C): each slice by `pool`, then the slices, as rows of an image of the slices' pixels.

    The mean of means of equal size is the mean, and of several maxima the first slice, and in it the first pixel, wins.
    """
    check_float(op, x=x)
    check_ndim(op, "x", x, 5, "(N, D, H, W, C)")
    size = integers(op, "size", size, 1, "(z, y, x)")
    stride = size if stride is None else integers(op, "stride", stride, 1, "(z, y, x)")
    padding = integers(op, "padding", padding, 0, "(z, y, x)")
    n, depth, height, width, channels = x.shape
    y = pool(x.reshape(n * depth, height, width, channels), size[1:], stride[1:], padding[1:])
    rows = y.reshape(n, depth, y.shape[1] * y.shape[2], channels)
    z = pool(rows, (size[0], 1), (stride[0], 1), (padding[0], 0))
    return z.reshape(n, z.shape[1], *y.shape[1:])


# (label, shape of x, kernel size, geometry)
WINDOWS = [
    ("2x2, as in LeNet and U-Net", (2, 4, 6, 3), (2, 2), Geometry((2, 2))),
    ("rows and columns left over", (1, 5, 7, 2), (2, 2), Geometry((2, 2))),
    ("windows overlap", (2, 5, 6, 2), (3, 3), Geometry()),
    ("padding", (1, 5, 4, 2), (3, 3), Geometry((2, 2), (1, 1))),
    ("padding up to the window", (1, 3, 4, 2), (3, 2), Geometry(padding=(2, 1))),
    ("not square, strides differ", (1, 7, 8, 1), (3, 2), Geometry((2, 3), (0, 1))),
    ("stride over size", (1, 7, 8, 2), (2, 1), Geometry((3, 2))),
    ("the whole image", (2, 3, 5, 2), (3, 5), Geometry((3, 5))),
    ("one pixel", (1, 1, 1, 1), (1, 1), Geometry()),
    ("no image", (0, 4, 4, 2), (2, 2), Geometry((2, 2))),
]
# Too many elements for a gradient check by differences; compared between tiers only.
LARGE_WINDOWS = [
    ("16 channels, a vector", (2, 18, 22, 16), (2, 2), Geometry((2, 2))),
    ("37 channels, a tail", (3, 11, 13, 37), (3, 3), Geometry((2, 2), (1, 1))),
]
