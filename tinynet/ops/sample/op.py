"""grid_sample, warp and affine_grid on Tensors, and what is the gradient of what."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...engine.basic_ops import clip, where
from ...engine.tensor import Function, Tensor, grad
from .._shared.checks import check_float, check_ndim
from ..matmul.op import matmul
from .reference import backward_input, backward_points, forward

REACH = {"zeros": 1, "border": 0}


def grid_sample2d(x: Tensor, grid: Tensor, padding: str = "zeros") -> Tensor:
    """Images read at the points of a grid by bilinear interpolation, channels last. Differentiable in both.

    x: (N, H, W, C), float. grid: (N, H', W', 2), the dtype of x: the points (x, y) in units of the image, -1 at its
    left and upper edge, 1 at its right and lower edge (`align_corners=False` in PyTorch; the axes in its order, too).
    padding: what surrounds the image: 'zeros', or 'border', its outermost pixels. Returns (N, H', W', C) of the dtype
    of x. Where a coordinate is NaN, so is the result.

    Raises ValueError or TypeError, naming the argument, for shapes, dtypes or a padding that do not fit.
    Source: Jaderberg et al., Spatial transformer networks, NeurIPS 2015, section 3.3.
    """
    return _grid_sample("grid_sample2d", x, grid, padding, 2)


def grid_sample3d(x: Tensor, grid: Tensor, padding: str = "zeros") -> Tensor:
    """Volumes (N, D, H, W, C) read at the points (x, y, z) of a grid (N, D', H', W', 3); see `grid_sample2d`."""
    return _grid_sample("grid_sample3d", x, grid, padding, 3)


def warp(x: Tensor, displacement: Tensor, padding: str = "border") -> Tensor:
    """Images or volumes, each pixel taken from another place: y[p] = x[p + displacement[p]], linearly interpolated.

    x: (N, H, W, C) or (N, D, H, W, C), float. displacement: (N, H, W, 2) or (N, D, H, W, 3), in pixels along the axes
    in their order, (y, x) or (z, y, x); of the dtype of x. padding: 'border' or 'zeros', what surrounds the image.
    Returns the shape and dtype of x. Differentiable in both arguments.

    Raises ValueError or TypeError, naming the argument, for shapes, dtypes or a padding that do not fit.
    Source: Balakrishnan et al., VoxelMorph, CVPR 2018, section 3.2.
    """
    check_float("warp", x=x, displacement=displacement)
    axes = x.ndim - 2
    if axes not in (2, 3):
        raise ValueError(f"warp: x has shape {tuple(x.shape)}; (N, H, W, C) or (N, D, H, W, C) is needed")
    if tuple(displacement.shape) != (*x.shape[:-1], axes):
        raise ValueError(f"warp: displacement has shape {tuple(displacement.shape)}; {(*x.shape[:-1], axes)} is needed")
    xp = array_module(displacement.data if isinstance(displacement, Tensor) else displacement)
    places = xp.stack(xp.meshgrid(*map(xp.arange, x.shape[1:-1]), indexing="ij"), axis=-1)
    return sampled("warp", x, displacement + places.astype(x.dtype), padding)


def affine_grid(matrices: Tensor, size: Sequence[int]) -> Tensor:
    """The grid for `grid_sample2d` or `grid_sample3d` of affine maps.

    matrices: (N, 2, 3) or (N, 3, 4), float: the rows of a map from the points (x, y, 1) or (x, y, z, 1) of the result
    to those of the image, both in units from -1 to 1. size: (H', W') or (D', H', W') of the result. Returns (N, H', W',
    2) or (N, D', H', W', 3).

    Raises ValueError or TypeError, naming the argument, for a shape or dtype that does not fit.
    """
    check_float("affine_grid", matrices=matrices)
    axes = len(size)
    if axes not in (2, 3) or matrices.ndim != 3 or tuple(matrices.shape[1:]) != (axes, axes + 1):
        raise ValueError(
            f"affine_grid: matrices has shape {tuple(matrices.shape)} and size is {tuple(size)}; (N, 2, 3) with "
            "(H, W), or (N, 3, 4) with (D, H, W), is needed"
        )
    xp = array_module(matrices.data if isinstance(matrices, Tensor) else matrices)
    centers = [(2 * xp.arange(n) + 1) / n - 1 for n in size]
    places = xp.stack([*xp.meshgrid(*centers, indexing="ij")[::-1], xp.ones(size)], axis=-1)
    rows = matmul(places.reshape(1, -1, axes + 1).astype(matrices.dtype), matrices.swapaxes(1, 2))
    return rows.reshape(len(matrices), *size, axes)


def _grid_sample(name: str, x: Tensor, grid: Tensor, padding: str, axes: int) -> Tensor:
    layout = "(N, H, W, C)" if axes == 2 else "(N, D, H, W, C)"
    check_float(name, x=x, grid=grid)
    check_ndim(name, "x", x, axes + 2, layout)
    if grid.ndim != axes + 2 or grid.shape[0] != x.shape[0] or grid.shape[-1] != axes:
        raise ValueError(f"{name}: grid has shape {tuple(grid.shape)}; ({x.shape[0]}, {axes} sizes, {axes}) is needed")
    size = np.asarray(x.shape[1:-1], x.dtype)
    # From (x, y) in -1 .. 1 to (y, x) in pixels, whose centers are at 0, 1, ...
    return sampled(name, x, (grid[..., ::-1] + 1) * array_module(x.data).asarray(size / 2) - 0.5, padding)


def sampled(name: str, x: Any, points: Any, padding: str) -> Any:
    """x at points (N, ..., axes) in pixels."""
    check_float(name, x=x, points=points)
    if padding not in REACH:
        raise ValueError(f"{name}: padding is {padding!r}; 'zeros' or 'border' is needed")
    if 0 in x.shape[1:-1]:
        raise ValueError(f"{name}: x has shape {tuple(x.shape)}; an empty image has nothing to interpolate")
    y = Sample.apply(
        x, points.reshape(len(points), math.prod(points.shape[1:-1]), points.shape[-1]), reach=REACH[padding]
    )
    return y.reshape(*points.shape[:-1], x.shape[-1])


class Sample(Function):
    """y (N, M, C) of x and points (N, M, axes)."""

    def forward(self, x, points, *, reach):
        self.save(x, points)
        self.reach = reach
        return forward(x, points, reach)

    def backward(self, gy):
        (x, points), (needs_x, needs_points) = self.saved, self.needs_grad
        gx = backward_input(gy, points, x.shape[1:-1], self.reach) if needs_x else None
        return gx, backward_points(x, gy, points, self.reach) if needs_points else None

    def backward_graph(self, gy):
        inputs, wanted = self.saved, [t for t, needed in zip(self.saved, self.needs_grad) if needed]
        gradients = iter(grad(composed(*inputs, self.reach), wanted, gy, create_graph=True))
        return tuple(next(gradients) if needed else None for needed in self.needs_grad)


def composed(x: Tensor, points: Tensor, reach: int) -> Any:
    """The same in basic ops, whose gradients have gradients."""
    xp, size = array_module(points.data), x.shape[1:-1]
    coordinates = [clip(points[..., a], -reach, n - 1 + reach) for a, n in enumerate(size)]
    lower = [xp.floor(c.data).astype("int64") for c in coordinates]
    y: Any = 0
    for corner in itertools.product((0, 1), repeat=len(size)):
        weight: Any = 1
        place = [xp.arange(len(points))[:, None]]
        for a, upper in enumerate(corner):
            i, fraction = lower[a] + upper, coordinates[a] - lower[a].astype(points.dtype)
            inside = (i >= 0) & (i < size[a])
            place.append(xp.where(inside, i, 0))
            weight = weight * where(inside, fraction if upper else 1 - fraction, 0.0)
        y = y + weight[..., None] * x[tuple(place)]
    return y
