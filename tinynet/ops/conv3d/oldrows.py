"""Rows of voxels as rows of a matrix: which input voxels a group of neighboring output voxels reads, for `blocked`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Steps(NamedTuple):
    """Along z and y: i = o * stride + k * dilation - padding, and output o is slice or row first + o * apart of y.

    Along x, in elements: a band begins at `start` of the rows of x, groups of outputs read what is `step` apart, and
    a group has `columns` results.
    """

    stride_z: int
    stride_y: int
    padding_z: int
    padding_y: int
    dilation_z: int
    dilation_y: int
    first_z: int
    first_y: int
    apart_z: int
    apart_y: int
    start: int
    step: int
    columns: int


class Row(NamedTuple):
    """How a row of outputs reads a row of inputs: outputs j * pixels + q read the inputs j * step + first + tap.

    uses: (q, kx, tap) for each weight of the widened kernel that is not 0; its taps are 0 .. taps - 1.
    """

    pixels: int
    step: int
    first: int
    taps: int
    uses: list[tuple[int, int, int]]

    @classmethod
    def of(cls, pixels: int, step: int, reads: Iterable[tuple[int, int, int]]) -> Row:
        """From (q, kx, input pixel read by output q)."""
        reads = list(reads)
        first = min(i for _, _, i in reads)
        uses = [(q, kx, i - first) for q, kx, i in reads]
        return cls(pixels, step, first, 1 + max(tap for _, _, tap in uses), uses)

    @classmethod
    def forward(cls, kernel: int, stride: int, padding: int, dilation: int, lanes: int) -> Row:
        """Output q reads the pixel q * stride + kx * dilation - padding. lanes: how many outputs fit into a vector."""
        reads = ((q, k, q * stride + k * dilation - padding) for q in range(lanes) for k in range(kernel))
        return cls.of(lanes, lanes * stride, reads)

    @classmethod
    def backward(cls, kernel: int, stride: int, padding: int, dilation: int, lanes: int) -> Row:
        """gx[q] reads the gy[o] with q = o * stride + kx * dilation - padding."""
        pixels = max(1, lanes // stride) * stride
        reads = ((q, k, q + padding - k * dilation) for q in range(pixels) for k in range(kernel))
        return cls.of(pixels, pixels // stride, ((q, k, i // stride) for q, k, i in reads if i % stride == 0))

    def widened(self, w: np.ndarray) -> np.ndarray:
        """(KD, KH, taps A, pixels B) of w (KD, KH, KW, A, B): the weights of `pixels` outputs side by side."""
        wide = np.zeros((*w.shape[:2], self.taps, w.shape[3], self.pixels, w.shape[4]), w.dtype)
        for q, kx, tap in self.uses:
            wide[:, :, tap, :, q] = w[:, :, kx]
        return wide.reshape(*w.shape[:2], self.taps * w.shape[3], self.pixels * w.shape[4])

    def steps(self, along_z_and_y: tuple, c_in: int, c_out: int) -> Steps:
        """The Steps of a correlation from c_in to c_out channels."""
        return Steps(*along_z_and_y, self.first * c_in, self.step * c_in, self.pixels * c_out)

    def narrowed(self, wide: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The transpose of `widened`: w of this shape, each weight the sum of the places where it stands."""
        wide, w = wide.reshape(*shape[:2], self.taps, shape[3], self.pixels, shape[4]), np.zeros(shape, wide.dtype)
        for q, kx, tap in self.uses:
            w[:, :, kx] += wide[:, :, tap, :, q]
        return w
