"""Images and volumes with a border of zeros, one pixel wide, in Numba; an image is a volume with one slice."""

from __future__ import annotations

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.elementwise import threads_for


def with_border(x: np.ndarray) -> np.ndarray:
    """A volume (N, D + 2, H + 2, W + 2, C), or (N, 1, H + 2, W + 2, C) of images: x (contiguous) with zeros around."""
    volumes, sides = _volumes(x), int(x.ndim == 5)
    depth, height, width = volumes.shape[1:4]
    padded = memory.empty((len(x), depth + 2 * sides, height + 2, width + 2, x.shape[-1]), x.dtype)
    _copy_with_border(threads_for(padded.size), volumes, sides, padded)
    return padded


def without_border(sums: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape: the sum over the first axis of arrays with a border, which is left out."""
    total = memory.empty(shape, sums.dtype)
    _add_without_border(threads_for(sums.size), sums, int(len(shape) == 5), _volumes(total))
    return total


def _volumes(x: np.ndarray) -> np.ndarray:
    """(N, H, W, C) as (N, 1, H, W, C)."""
    return x[:, None] if x.ndim == 4 else x


@jit(separate=True)
def _copy_share(thread, threads, x, sides, padded):
    _, depth, height, width, channels = x.shape
    _, slices, rows, _, _ = padded.shape
    first, end = share_of(thread, threads, len(x) * slices * rows)
    for line in range(first, end):
        n, z, y = line // rows // slices, line // rows % slices - sides, line % rows - 1
        row = padded[n, z + sides, y + 1].reshape(-1)
        row[:] = 0
        if 0 <= z < depth and 0 <= y < height:
            source, inside = x[n, z, y].reshape(-1), row[channels : (width + 1) * channels]
            for i in range(len(inside)):
                inside[i] = source[i]


@jit
def _copy_with_border(threads, x, sides, padded):
    in_parallel(_copy_share, threads, (threads, x, sides, padded))


@jit(separate=True)
def _add_share(thread, threads, sums, sides, total):
    _, depth, height, width, channels = total.shape
    first, end = share_of(thread, threads, len(total) * depth * height)
    for line in range(first, end):
        n, z, y = line // height // depth, line // height % depth, line % height
        row = total[n, z, y].reshape(-1)
        row[:] = 0
        for part in range(len(sums)):
            inside = sums[part, n, z + sides, y + 1].reshape(-1)[channels : (width + 1) * channels]
            for i in range(len(row)):
                row[i] += inside[i]


@jit
def _add_without_border(threads, sums, sides, total):
    in_parallel(_add_share, threads, (threads, sums, sides, total))
