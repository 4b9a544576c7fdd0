"""Which input pixel meets which output pixel: the index arithmetic of a convolution, shared by all tiers.

Per axis, output o and kernel tap k read input

    i = o * stride + k * dilation - padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Pair = tuple[int, int]
Triple = tuple[int, int, int]
Images = np.ndarray | tuple[np.ndarray, ...]  # one array, or several whose channels follow each other
Bias = np.ndarray | None


class Geometry(NamedTuple):
    """How a kernel moves over an image: pairs (y, x), and the number of independent sets of channels.

    For a volume, they are triples (z, y, x).
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def output_size(self, size: tuple[int, ...], kernel: tuple[int, ...]) -> Pair:
        """(OH, OW) for an image of `size` (H, W) and a kernel (KH, KW); 0 or less if the kernel does not fit."""
        axes = zip(size, kernel, self.stride, self.padding, self.dilation)
        lengths = ((s + 2 * p - d * (k - 1) - 1) // step + 1 for s, k, step, p, d in axes)
        return tuple(lengths)  # type: ignore[return-value]

    def taps(self, size: Pair, kernel: Pair, out: Pair) -> Iterator[Tap]:
        """All taps of a kernel, each with the slices of the pixels that meet through it (the padding is left out)."""
        axes = zip(size, kernel, out, self.stride, self.padding, self.dilation)
        rows, columns = (list(axis_taps(*axis)) for axis in axes)
        for ky, oy, iy in rows:
            for kx, ox, ix in columns:
                yield Tap(ky, kx, oy, ox, iy, ix)


class Tap(NamedTuple):
    """One kernel tap, the outputs that use it and the inputs they read through it, as slices of equal length."""

    ky: int
    kx: int
    oy: slice
    ox: slice
    iy: slice
    ix: slice


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


def channel_groups(c_in: int, c_out: int, groups: int) -> list[tuple[slice, slice]]:
    """The input and output channels of each group, as slices."""
    i, o = c_in // groups, c_out // groups
    return [(slice(g * i, (g + 1) * i), slice(g * o, (g + 1) * o)) for g in range(groups)]


class Phase(NamedTuple):
    """A correlation of stride 1 along one axis: the taps it uses, in its order, its padding and its dilation."""

    taps: list[int]
    padding: int
    dilation: int


def phase(a: int, kernel: int, stride: int, padding: int, dilation: int) -> Phase:
    """Along one axis: the correlation that turns gy into gx at the input pixels i = a, a + stride, a + 2 stride ...

    Tap k connects i = a + j stride with output o = (i + padding - k dilation) / stride, where that is an integer:

        o = j + (a + padding - k dilation) / stride.

    The taps for which it is an integer are an arithmetic progression. Taken in decreasing order of k, their o
    increase by equal steps: seen from j, that is a correlation with a dilation (the step) and a padding
    (minus the first offset; a negative padding leaves out the first outputs). There may be no such tap at all.
    """
    taps = [k for k in reversed(range(kernel)) if (a + padding - k * dilation) % stride == 0]
    offsets = [(a + padding - k * dilation) // stride for k in taps]
    return Phase(taps, -offsets[0] if offsets else 0, offsets[1] - offsets[0] if len(offsets) > 1 else 1)
