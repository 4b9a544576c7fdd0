"""Rows of pixels as rows of a matrix: which input pixels a run of neighboring output pixels reads, for `blocked`."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np


class Steps(NamedTuple):
    """Along z and y: i = o * stride + k * dilation - padding.

    Along x: a band begins at pixel `start` of the rows of x, and runs of `pixels` outputs read what is `step` elements
    apart.
    """

    stride_z: int
    stride_y: int
    padding_z: int
    padding_y: int
    dilation_z: int
    dilation_y: int
    start: int
    step: int
    pixels: int


class Row(NamedTuple):
    """How a row of outputs reads a row of inputs: outputs j * pixels + q read the inputs j * step + first + tap.

    taps: those that any output reads, in order. uses: (q, kx, place of the tap in taps) for each weight of the widened
    kernel that is not 0.
    """

    pixels: int
    step: int
    first: int
    taps: tuple[int, ...]
    uses: tuple[tuple[int, int, int], ...]

    @classmethod
    @functools.cache  # a step of training asks for the same few rows as the step before
    def of(cls, kernel: int, stride: int, padding: int, dilation: int, wanted: int) -> Row:
        """Output q reads the pixel q * stride + kx * dilation - padding. wanted: outputs in a run."""
        pixels = wanted if dilation == 1 else 1  # else nearly all weights of a widened kernel would be 0
        reads = [(q, k, q * stride + k * dilation - padding) for q in range(pixels) for k in range(kernel)]
        inputs = sorted({i for _, _, i in reads})
        uses = tuple((q, kx, inputs.index(i)) for q, kx, i in reads)
        return cls(pixels, pixels * stride, inputs[0], tuple(i - inputs[0] for i in inputs), uses)

    @property
    def pieces(self) -> tuple[int, ...]:
        """The first pixel of each piece of neighboring taps: one piece, unless a dilation leaves gaps."""
        return (0,) if self.taps[-1] == len(self.taps) - 1 else self.taps

    def widened(self, w: np.ndarray) -> np.ndarray:
        """(..., pieces, k, pixels B) of w (..., KW, A, B): the weights of `pixels` outputs side by side."""
        *others, _, a, b = w.shape
        wide = np.zeros((*others, len(self.taps), a, self.pixels, b), w.dtype)
        for q, kx, tap in self.uses:
            wide[..., tap, :, q, :] = w[..., kx, :, :]
        return wide.reshape(*others, len(self.pieces), len(self.taps) // len(self.pieces) * a, self.pixels * b)

    def narrowed(self, wide: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The transpose of `widened`: w of this shape, each weight the sum of the places where it stands."""
        *others, _, a, b = shape
        wide, w = wide.reshape(*others, len(self.taps), a, self.pixels, b), np.zeros(shape, wide.dtype)
        for q, kx, tap in self.uses:
            w[..., kx, :, :] += wide[..., tap, :, q, :]
        return w

    def steps(self, along_z_and_y: tuple, c_in: int) -> Steps:
        """The Steps of a correlation whose groups have c_in input channels."""
        return Steps(*along_z_and_y, self.first, self.step * c_in, self.pixels)
