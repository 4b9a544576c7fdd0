"""avg_pool2d on a GPU: blocks for each row of the result; see avg_pool2d.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch
from .._cuda.elementwise import MOST_BLOCKS_ACROSS, THREADS, VARIANTS, pack_width
from ..conv2d.geometry import Pair, output_size

SOURCE = Source(Path(__file__).with_name("avg_pool2d.cu"), VARIANTS)


def forward(x: Any, *, size: Pair, stride: Pair, padding: Pair) -> Any:
    """y = the mean of each window; padding counts as zeros."""
    shape = (len(x), *output_size(x.shape[1:3], size, stride, padding, (1, 1)), x.shape[3])
    y = empty(shape, x.dtype, like=x)
    return _run("avg_pool", contiguous(x), y, x.shape[1:3], y.shape[1:3], size, stride, padding)


def backward(gy: Any, *, plane: Pair, size: Pair, stride: Pair, padding: Pair) -> Any:
    """gx: each window gives every one of its pixels the same share of its gradient. plane: (H, W) of gx."""
    gx = empty((len(gy), *plane, gy.shape[3]), gy.dtype, like=gy)
    return _run("avg_pool_backward", contiguous(gy), gx, plane, gy.shape[1:3], size, stride, padding)


def _run(kernel: str, a: Any, result: Any, plane: Pair, out_plane: Pair, *windows: Pair) -> Any:
    n_images, rows, columns, channels = result.shape
    pack = pack_width(a, result, multiples=(channels,))
    items = columns * channels // pack
    grid = (n_images * rows, min(blocks(items, THREADS), MOST_BLOCKS_ACROSS))
    pairs = (number for pair in (plane, out_plane, *windows) for number in pair)
    launch(SOURCE, kernel, grid, THREADS, a, result, items, channels, *pairs, WIDTH=pack)
    return result
