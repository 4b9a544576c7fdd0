"""avg_pool2d on a GPU: blocks for each row of the result; see avg_pool2d.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch
from .._cuda.elementwise import MOST_BLOCKS_ACROSS, THREADS, VARIANTS, pack_width
from .._shared.geometry import Geometry, Pair

SOURCE = Source(Path(__file__).with_name("avg_pool2d.cu"), VARIANTS)


def forward(x: Any, kernel_size: Pair, geometry: Geometry) -> Any:
    """y = the mean of each window; padding counts as zeros."""
    y = empty((len(x), *geometry.output_size(x.shape[1:3], kernel_size), x.shape[3]), x.dtype, like=x)
    return _run("avg_pool", contiguous(x), y, (x.shape[1:3], y.shape[1:3]), kernel_size, geometry)


def backward(gy: Any, input_size: Pair, kernel_size: Pair, geometry: Geometry) -> Any:
    """gx: each window gives every one of its pixels the same share of its gradient. input_size: (H, W) of gx."""
    gx = empty((len(gy), *input_size, gy.shape[3]), gy.dtype, like=gy)
    return _run("avg_pool_backward", contiguous(gy), gx, (input_size, gy.shape[1:3]), kernel_size, geometry)


def _run(kernel: str, a: Any, result: Any, planes: tuple[Pair, Pair], kernel_size: Pair, geometry: Geometry) -> Any:
    """planes: (H, W) of x and (OH, OW) of y."""
    n_images, rows, columns, channels = result.shape
    pack = pack_width(a, result, multiples=(channels,))
    items = columns * channels // pack
    grid = (n_images * rows, min(blocks(items, THREADS), MOST_BLOCKS_ACROSS))
    pairs = (number for pair in (*planes, kernel_size, geometry.stride, geometry.padding) for number in pair)
    launch(SOURCE, kernel, grid, THREADS, a, result, items, channels, *pairs, WIDTH=pack)
    return result
