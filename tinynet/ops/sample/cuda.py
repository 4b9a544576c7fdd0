"""Linear interpolation at points on a GPU; see sample.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.arrays import array_module
from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch
from .._cuda.elementwise import THREADS

SOURCE = Source(Path(__file__).with_name("sample.cu"))


def forward(x: Any, points: Any, reach: int) -> Any:
    """y[n, m, c] = sum over the corners of the cell around point m of weight x[n, corner, c]."""
    y = empty((*points.shape[:2], x.shape[-1]), x.dtype, like=x)
    return _run("sample_forward", (x, points), y, y.size, _sizes(x.shape, points, reach))


def backward_points(x: Any, gy: Any, points: Any, reach: int) -> Any:
    """gpoints[n, m, a] = sum over corners and c of d weight / d coordinate a times x[n, corner, c] gy[n, m, c]."""
    gpoints = empty(points.shape, points.dtype, like=points)
    count = points.shape[0] * points.shape[1]
    return _run("sample_points", (x, gy, points), gpoints, count, _sizes(x.shape, points, reach))


def backward_input(gy: Any, points: Any, size: tuple[int, ...], reach: int) -> Any:
    """gx (N, *size, C): each point adds weight gy to the corners of its cell."""
    gx = empty((len(gy), *size, gy.shape[-1]), gy.dtype, like=gy)
    order, starts = _sorted_by_cell(points, size, reach)
    return _run("sample_input", (gy, points, order, starts), gx, gx.size, _sizes(gx.shape, points, reach))


def _run(kernel: str, arrays: tuple[Any, ...], result: Any, size: int, sizes: tuple[int, ...]) -> Any:
    launch(SOURCE, kernel, blocks(size, THREADS), THREADS, *map(contiguous, arrays), result, size, *sizes)
    return result


def _sizes(shape: tuple[int, ...], points: Any, reach: int) -> tuple[int, ...]:
    """SIZES in sample.cu."""
    volume = shape[1:] if len(shape) == 5 else (1, *shape[1:])
    return *volume, points.shape[1], points.shape[2], reach


def _sorted_by_cell(points: Any, size: tuple[int, ...], reach: int) -> tuple[Any, Any]:
    """(order, starts): the points in the order of their cells, and where in it the points of each cell begin."""
    xp = array_module(points)
    size = size if len(size) == 3 else (1, *size)
    cell = xp.arange(len(points))[:, None]
    for a, n in enumerate(size, start=points.shape[2] - 3):
        lower = xp.floor(xp.nan_to_num(xp.clip(points[..., a], -reach, n - 1 + reach))) if a >= 0 else 0
        cell = cell * (n + 2) + lower + 1
    cells = len(points) * (size[0] + 2) * (size[1] + 2) * (size[2] + 2)
    cell = cell.reshape(-1).astype("int64")
    order = xp.argsort(cell)
    return order, xp.searchsorted(cell[order], xp.arange(cells + 1))
