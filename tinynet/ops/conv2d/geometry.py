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
        rows, columns = (list(axis_taps(*axis)) for axis in self.axes)
        for ky, oy, iy in rows:
            for kx, ox, ix in columns:
                yield Tap(ky, kx, oy, ox, iy, ix)


def axis_taps(
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


class Phase(NamedTuple):
    """A correlation of stride 1 along one axis: the taps it uses, in its order, its padding and its dilation."""

    taps: list[int]
    padding: int
    dilation: int


def phase(a: int, kernel: int, stride: int, padding: int, dilation: int) -> Phase:
    """Along one axis: the correlation that turns gy into gx at the input pixels i = a, a + stride, a + 2 stride ...

    Tap k connects i = a + j stride with output o = (i + padding - k dilation) / stride, where that is whole:

        o = j + (a + padding - k dilation) / stride.

    The taps for which it is whole are an arithmetic progression. Taken in decreasing order of k, their o
    increase by equal steps: seen from j, that is a correlation with a dilation (the step) and a padding
    (minus the first offset; a negative padding leaves out the first outputs). There may be no such tap at all.
    """
    taps = [k for k in reversed(range(kernel)) if (a + padding - k * dilation) % stride == 0]
    offsets = [(a + padding - k * dilation) // stride for k in taps]
    return Phase(taps, -offsets[0] if offsets else 0, offsets[1] - offsets[0] if len(offsets) > 1 else 1)
