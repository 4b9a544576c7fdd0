"""max_pool2d on a GPU: a block for each row of the result; see max_pool2d.cu for the ways to scatter.

    naive   scatters with a thread for each plane of the gradient, which adds all of it in order

The default scatters with a thread for each pixel or row of the gradient, and forward has one version only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import REAL, blocks, contiguous, empty, launch
from .._cuda.elementwise import MOST_BLOCKS_ACROSS, THREADS, VARIANTS, pack_width
from .._shared.geometry import Geometry, Pair

SOURCE = Source(Path(__file__).with_name("max_pool2d.cu"), VARIANTS)


def forward(x: Any, kernel_size: Pair, geometry: Geometry) -> tuple[Any, Any]:
    """(y, indices): the largest value of each window and where it was; NaN is larger than any number.

    Of equal values the first in row-major order is taken.
    """
    n_images, height, width, channels = x.shape
    out_height, out_width = geometry.output_size((height, width), kernel_size)
    shape = (n_images, out_height, out_width, channels)
    y = empty(shape, x.dtype, like=x)
    indices = empty(shape, "int32", like=x)
    x = contiguous(x)
    pack = pack_width(x, y, indices, multiples=(channels,))
    items = out_width * channels // pack
    launch(
        SOURCE, "max_pool", *_line_grid(n_images * out_height, items), x, y, indices, items, channels,
        height, width, out_height, out_width, *kernel_size, *geometry.stride, *geometry.padding, WIDTH=pack,
    )  # fmt: skip
    return y, indices


def scatter(g: Any, indices: Any, *, size: Pair, cell: Pair | None = None) -> Any:
    """Add each g[n, oy, ox, c] to pixel indices[n, oy, ox, c] of channel c of image n; zeros elsewhere.

    size: (H, W) of the result (N, H, W, C). The indices must lie in that plane: they are not checked here.
    cell: a promise, if given: that each index lies in its own cell of so many rows and columns of the plane.
    """
    return (_scatter_rows if cell is None else _scatter_cells)(g, indices, size=size, cell=cell)


def gather(x: Any, indices: Any) -> Any:
    """y[n, oy, ox, c] = pixel indices[n, oy, ox, c] of channel c of image n of x."""
    n_images, height, width, channels = x.shape
    out_height, out_width = indices.shape[1:3]
    y = empty(indices.shape, x.dtype, like=x)
    x, indices = contiguous(x), contiguous(indices)
    pack = pack_width(x, indices, y, multiples=(channels,))
    items = out_width * channels // pack
    launch(
        SOURCE, "gather", *_line_grid(n_images * out_height, items), x, indices, y, items, channels,
        height * width * channels, out_height, WIDTH=pack,
    )  # fmt: skip
    return y


def _scatter_cells(g: Any, indices: Any, *, size: Pair, cell: Pair) -> Any:
    n_images, out_height, out_width, channels = g.shape
    gx = empty((n_images, *size, channels), g.dtype, like=g)
    g, indices = contiguous(g), contiguous(indices)
    pack = pack_width(g, indices, gx, multiples=(channels,))
    items = size[1] * channels // pack
    launch(
        SOURCE, "scatter_cells", *_line_grid(n_images * size[0], items), g, indices, gx, items, channels,
        *size, out_height, out_width, *cell, WIDTH=pack,
    )  # fmt: skip
    return gx


def _scatter_rows(g: Any, indices: Any, *, size: Pair, cell: Pair | None = None) -> Any:
    n_images, out_height, out_width, channels = g.shape
    gx = empty((n_images, *size, channels), g.dtype, like=g)
    g, indices = contiguous(g), contiguous(indices)
    lines, rows = n_images * out_height, n_images * size[0] * channels
    reach = empty((lines, 2), "int32", like=g)
    real = REAL[g.dtype]
    launch(SOURCE, "scatter_reach", lines, THREADS, indices, reach, out_width * channels, size[1], WIDTH=1, real=real)
    launch(
        SOURCE, "scatter_rows", blocks(rows, THREADS), THREADS, g, indices, reach, gx, rows, channels,
        *size, out_height, out_width, WIDTH=1,
    )  # fmt: skip
    return gx


def _scatter_planes(g: Any, indices: Any, *, size: Pair, cell: Pair | None = None) -> Any:
    n_images, out_height, out_width, channels = g.shape
    gx = empty((n_images, *size, channels), g.dtype, like=g)
    planes = n_images * channels
    launch(
        SOURCE, "scatter_planes", blocks(planes, THREADS), THREADS, contiguous(g), contiguous(indices), gx, planes,
        channels, size[0] * size[1], out_height * out_width, WIDTH=1,
    )  # fmt: skip
    return gx


def _line_grid(lines: int, items: int) -> tuple[tuple[int, int], int]:
    """(grid, block) for rows of so many packs, one after the other along x; the blocks along y share a row."""
    return (lines, min(blocks(items, THREADS), MOST_BLOCKS_ACROSS)), THREADS


IMPLEMENTATIONS = {"default": {}, "naive": {"scatter": _scatter_planes}}
