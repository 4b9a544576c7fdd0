"""Which input pixel meets which output pixel: the index arithmetic of a convolution, shared by all tiers.

Per axis, output o and kernel tap k read input

    i = o * stride + k * dilation - padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

Pair = tuple[int, int]


def output_length(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many positions the dilated kernel fits in, along one axis; 0 or less if it does not fit at all."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """(OH, OW) of a convolution of an image of `size` (H, W)."""
    lengths = (output_length(*axis) for axis in zip(size, kernel, stride, padding, dilation))
    return tuple(lengths)  # type: ignore[return-value]


class Tap(NamedTuple):
    """One kernel tap, the outputs that use it and the inputs they read through it, as slices of equal length."""

    ky: int
    kx: int
    oy: slice
    ox: slice
    iy: slice
    ix: slice


class Taps:
    """All taps of a kernel, each with the slices of pixels that meet through it (those in the padding left out)."""

    def __init__(self, size: Pair, kernel: Pair, out: Pair, stride: Pair, padding: Pair, dilation: Pair) -> None:
        self.axes = list(zip(size, kernel, out, stride, padding, dilation))

    def __iter__(self) -> Iterator[Tap]:
        rows, columns = (list(_axis_taps(*axis)) for axis in self.axes)
        for ky, oy, iy in rows:
            for kx, ox, ix in columns:
                yield Tap(ky, kx, oy, ox, iy, ix)


def _axis_taps(
    size: int, kernel: int, out: int, stride: int, padding: int, dilation: int
) -> Iterator[tuple[int, slice, slice]]:
    """(k, slice of o, slice of i) for each tap along one axis."""
    for k in range(kernel):
        shift = k * dilation - padding  # i = o * stride + shift must lie in 0 .. size - 1
        first = max(0, -(shift // stride))  # the smallest o with i >= 0: ceil(-shift / stride)
        last = min(out - 1, (size - 1 - shift) // stride)
        if first <= last:
            i = first * stride + shift
            yield k, slice(first, last + 1), slice(i, i + (last - first) * stride + 1, stride)
