"""Linear interpolation at points, by its definition: right in any floating-point dtype. The other tiers must agree.

x (N, H, W, C) or (N, D, H, W, C). points (N, M, 2) or (N, M, 3): coordinates (y, x) or (z, y, x) in pixels, where pixel
0 has its center at 0. y (N, M, C). reach: how far the image reaches beyond the centers of its border pixels. 1: zeros
surround it, and it fades over one pixel; 0: coordinates are clipped to the image, so that its border goes on forever.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, points: np.ndarray, reach: int) -> np.ndarray:
    """y[n, m, c] = sum over the corners of the cell around point m of weight x[n, corner, c]."""
    y = np.zeros((*points.shape[:2], x.shape[-1]), x.dtype)
    for place, weights, _ in _corners(x.shape[1:-1], points, reach):
        y += np.prod(weights, axis=0)[..., None] * x[place]
    return y


@kernel
def backward_input(gy: np.ndarray, points: np.ndarray, size: tuple[int, ...], reach: int) -> np.ndarray:
    """gx (N, *size, C): each point adds weight gy to the corners of its cell."""
    gx = np.zeros((len(gy), *size, gy.shape[-1]), gy.dtype)
    for place, weights, _ in _corners(size, points, reach):
        np.add.at(gx, place, np.prod(weights, axis=0)[..., None] * gy)
    return gx


@kernel
def backward_points(x: np.ndarray, gy: np.ndarray, points: np.ndarray, reach: int) -> np.ndarray:
    """gpoints[n, m, a] = sum over corners and c of d weight / d coordinate a times x[n, corner, c] gy[n, m, c]."""
    gpoints = np.zeros_like(points)
    for place, weights, slopes in _corners(x.shape[1:-1], points, reach):
        along = (x[place] * gy).sum(axis=-1)
        for a in range(len(weights)):
            others = np.prod([w for b, w in enumerate(weights) if b != a], axis=0)
            gpoints[..., a] += slopes[a] * others * along
    return gpoints


def _corners(size: tuple[int, ...], points: np.ndarray, reach: int) -> Iterator[tuple]:
    """For each corner of the cells: its index in x, its weight along each axis, and the derivatives of the weights.

    A corner outside of the image has the weight 0. A coordinate that was clipped has the derivative 0.
    """
    coordinates = [np.clip(points[..., a], -reach, n - 1 + reach) for a, n in enumerate(size)]
    lower = [np.floor(np.nan_to_num(c)).astype(np.int64) for c in coordinates]
    for corner in itertools.product((0, 1), repeat=len(size)):
        place: list[np.ndarray] = [np.arange(len(points))[:, None]]
        weights, slopes = [], []
        for a, upper in enumerate(corner):
            i, fraction = lower[a] + upper, coordinates[a] - lower[a]
            inside = (i >= 0) & (i < size[a])
            unclipped = (points[..., a] > -reach) & (points[..., a] < size[a] - 1 + reach)
            place.append(np.where(inside, i, 0))
            weights.append(np.where(inside, fraction if upper else 1 - fraction, 0).astype(points.dtype))
            slopes.append(np.where(inside & unclipped, 1 if upper else -1, 0).astype(points.dtype))
        yield tuple(place), weights, slopes
