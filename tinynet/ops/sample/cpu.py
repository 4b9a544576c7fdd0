"""Linear interpolation at points in Numba. An image is a volume with one slice.

Several points may add to one pixel of gx. Two threads must not do so at once, and the order of the additions decides
the last bits. So each thread owns some rows of the pixels; it looks at all points and adds what falls into its rows.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._cpu.parts import whole


def forward(x: np.ndarray, points: np.ndarray, reach: int) -> np.ndarray:
    """y[n, m, c] = sum over the corners of the cell around point m of weight x[n, corner, c]."""
    y = memory.empty((*points.shape[:2], x.shape[-1]), x.dtype)
    _forward(_volumes(whole(x)), whole(points), reach, y)
    return y


def backward_input(gy: np.ndarray, points: np.ndarray, size: tuple[int, ...], reach: int) -> np.ndarray:
    """gx (N, *size, C): each point adds weight gy to the corners of its cell."""
    gx = np.zeros((len(gy), *size, gy.shape[-1]), gy.dtype)
    _backward_input(whole(gy), whole(points), reach, numba.get_num_threads(), _volumes(gx))
    return gx


def backward_points(x: np.ndarray, gy: np.ndarray, points: np.ndarray, reach: int) -> np.ndarray:
    """gpoints[n, m, a] = sum over corners and c of d weight / d coordinate a times x[n, corner, c] gy[n, m, c]."""
    gpoints = memory.empty(points.shape, points.dtype)
    _backward_points(_volumes(whole(x)), whole(gy), whole(points), reach, gpoints)
    return gpoints


def _volumes(x: np.ndarray) -> np.ndarray:
    """(N, H, W, C) as (N, 1, H, W, C)."""
    return x[:, None] if x.ndim == 4 else x


@jit
def cell(coordinate, size, reach):
    """(the pixel below a coordinate, its distance from there, 1 where the coordinate moves with the point, else 0)."""
    clipped = min(max(coordinate, -reach), size - 1 + reach)
    lower = np.int64(math.floor(clipped)) if clipped == clipped else 0  # NaN has no floor
    return lower, clipped - lower, 1.0 if -reach < coordinate < size - 1 + reach else 0.0


@jit
def cells(point, size, reach):
    """`cell` along z, y and x; in an image, the point lies in its only slice."""
    z = cell(np.float64(point[0]), size[0], reach) if len(point) == 3 else (np.int64(0), 0.0, 0.0)
    return z, cell(np.float64(point[-2]), size[1], reach), cell(np.float64(point[-1]), size[2], reach)


@jit
def weight(upper, fraction):
    """The weight of the pixel below (upper = 0) or of the next one (1)."""
    return fraction if upper else 1 - fraction


@jit(parallel=True)
def _forward(x, points, reach, y):
    _, depth, height, width, channels = x.shape
    for item in prange(y.shape[0] * y.shape[1]):
        n, m = item // y.shape[1], item % y.shape[1]
        (lz, fz, _), (ly, fy, _), (lx, fx, _) = cells(points[n, m], (depth, height, width), reach)
        result = y[n, m]
        result[:] = 0
        for corner in range(8):
            uz, uy, ux = corner >> 2, corner >> 1 & 1, corner & 1
            iz, iy, ix, w = lz + uz, ly + uy, lx + ux, weight(uz, fz) * weight(uy, fy) * weight(ux, fx)
            if w != 0 and 0 <= iz < depth and 0 <= iy < height and 0 <= ix < width:
                share, pixel = y.dtype.type(w), x[n, iz, iy, ix]
                for c in range(channels):
                    result[c] += share * pixel[c]


@jit(parallel=True)
def _backward_input(gy, points, reach, owners, gx):
    images, depth, height, width, channels = gx.shape
    rows = depth * height
    for task in prange(images * owners):
        n, owner = task // owners, task % owners
        first, end = owner * rows // owners, (owner + 1) * rows // owners
        for m in range(points.shape[1]):
            (lz, fz, _), (ly, fy, _), (lx, fx, _) = cells(points[n, m], (depth, height, width), reach)
            for corner in range(8):
                uz, uy, ux = corner >> 2, corner >> 1 & 1, corner & 1
                iz, iy, ix, w = lz + uz, ly + uy, lx + ux, weight(uz, fz) * weight(uy, fy) * weight(ux, fx)
                if w != 0 and 0 <= iy < height and 0 <= ix < width and first <= iz * height + iy < end:
                    share, pixel = gx.dtype.type(w), gx[n, iz, iy, ix]
                    for c in range(channels):
                        pixel[c] += share * gy[n, m, c]


@jit(parallel=True)
def _backward_points(x, gy, points, reach, gpoints):
    _, depth, height, width, channels = x.shape
    for item in prange(gy.shape[0] * gy.shape[1]):
        n, m = item // gy.shape[1], item % gy.shape[1]
        (lz, fz, mz), (ly, fy, my), (lx, fx, mx) = cells(points[n, m], (depth, height, width), reach)
        gz, gy_, gx = 0.0, 0.0, 0.0
        for corner in range(8):
            uz, uy, ux = corner >> 2, corner >> 1 & 1, corner & 1
            iz, iy, ix = lz + uz, ly + uy, lx + ux
            if 0 <= iz < depth and 0 <= iy < height and 0 <= ix < width:
                along, wz, wy, wx = 0.0, weight(uz, fz), weight(uy, fy), weight(ux, fx)
                for c in range(channels):
                    along += x[n, iz, iy, ix, c] * gy[n, m, c]
                gz += (2 * uz - 1) * wy * wx * along
                gy_ += (2 * uy - 1) * wz * wx * along
                gx += (2 * ux - 1) * wz * wy * along
        if points.shape[2] == 3:
            gpoints[n, m, 0] = mz * gz
        gpoints[n, m, -2], gpoints[n, m, -1] = my * gy_, mx * gx
