"""Linear interpolation at points in Numba: blocks of points, each block by one thread.

x is copied with a border of zeros, one pixel wide, so that no corner of a cell is outside. For a block of points, the
cells and the distances in them are found first, in loops over the points that the compiler vectorizes. Then the pixels
are read: with few channels, the lanes of a vector are points ("gather" instructions read a pixel for each lane); with
many channels, the lanes are channels.

Several points may add to one pixel of gx. Two threads must not do so at once, and the order of the additions decides
the last bits. So each thread adds to an array of its own, and these arrays are added in their order.

Indices are unsigned (_cpu/elementwise.py says why).
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import VECTOR_BYTES
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.parts import whole
from .._cpu.reduction import REDUCTION
from .border import with_border, without_border

U = np.uint64
BLOCK = 256  # points
FEW = VECTOR_BYTES // 8  # channels: half of a vector of float32


def forward(x: np.ndarray, points: np.ndarray, reach: int) -> np.ndarray:
    """y[n, m, c] = sum over the corners of the cell around point m of weight x[n, corner, c]."""
    y = memory.empty((*points.shape[:2], x.shape[-1]), x.dtype)
    _forward(with_border(whole(x)), whole(points), reach, y)
    return y


def backward_input(gy: np.ndarray, points: np.ndarray, size: tuple[int, ...], reach: int) -> np.ndarray:
    """gx (N, *size, C): each point adds weight gy to the corners of its cell."""
    depth = (size[0] + 2,) if len(size) == 3 else (1,)
    shape = numba.get_num_threads(), len(gy), *depth, size[-2] + 2, size[-1] + 2, gy.shape[-1]
    sums = memory.empty(shape, gy.dtype)
    _backward_input(whole(gy), whole(points), reach, sums)
    return without_border(sums, (len(gy), *size, gy.shape[-1]))


def backward_points(x: np.ndarray, gy: np.ndarray, points: np.ndarray, reach: int) -> np.ndarray:
    """gpoints[n, m, a] = sum over corners and c of d weight / d coordinate a times x[n, corner, c] gy[n, m, c]."""
    gpoints = memory.empty(points.shape, points.dtype)
    _backward_points(with_border(whole(x)), whole(gy), whole(points), reach, gpoints)
    return gpoints


# ------------------------------------------------------------------------------------- cells
@jit(separate=True, fastmath=ELEMENTWISE)
def find_cells(points, shape, reach):
    """(first, fractions): the cells of points (M, axes) in an image with a border, (D, H, W, C).

    first[m]: where the pixel below point m begins in the flat image; fractions (3, M): the distances from it along z, y
    and x. At the last pixel of the border the cell is the one before, and the distance 1.
    """
    kind, axes = points.dtype.type, points.shape[1]
    first, fractions = np.zeros(len(points), np.uint64), np.empty((3, len(points)), points.dtype)
    fractions[0] = kind(0)
    for a in range(3 - axes, 3):
        size = shape[a] - 2
        low, high, last = kind(-reach), kind(size - 1 + reach), kind(size - 1)
        for m in range(len(points)):
            p = points[m, a + axes - 3]
            p = low if p < low else p  # a NaN stays one
            p = high if p > high else p
            lower = np.floor(p)
            lower = last if lower > last else lower
            fractions[a, m] = p - lower
            index = np.int64(lower if lower == lower else kind(0)) + 1
            first[m] = first[m] * U(shape[a]) + U(index)
    for m in range(len(points)):
        first[m] *= U(shape[3])
    return first, fractions


@jit
def steps_of(shape):
    """How far a pixel's neighbors along z, y and x are in the flat image (D, H, W, C)."""
    return U(shape[1] * shape[2] * shape[3]), U(shape[2] * shape[3]), U(shape[3])


@jit
def block_count(points):
    """How many blocks the points of all images make."""
    return len(points) * ((points.shape[1] + BLOCK - 1) // BLOCK)


@jit
def block_of(number, points):
    """(image, first point, end) of a block."""
    n, block = divmod(number, (points.shape[1] + BLOCK - 1) // BLOCK)
    return n, block * BLOCK, min((block + 1) * BLOCK, points.shape[1])


@jit(inline="always")
def bilinear(image, i, down, right, fy, fx):
    """The mean of the four pixels of a cell in a slice."""
    upper = image[i] + fx * (image[i + right] - image[i])
    lower = image[i + down] + fx * (image[i + down + right] - image[i + down])
    return upper + fy * (lower - upper)


@jit(inline="always")
def linear(image, i, steps, fz, fy, fx, is_volume):
    """The mean of the eight pixels of a cell, or of the four in an image."""
    behind, down, right = steps
    front = bilinear(image, i, down, right, fy, fx)
    if is_volume:
        return front + fz * (bilinear(image, i + behind, down, right, fy, fx) - front)
    return front


# ------------------------------------------------------------------------------------- the loops over points
@jit(separate=True, fastmath=ELEMENTWISE)
def interpolate(image, first, fractions, steps, is_volume, y):
    """y (M, C) = a flat image at the points of a block."""
    count, channels = U(y.shape[0]), U(y.shape[1])
    if channels <= U(FEW):
        for c in range(channels):
            for m in range(count):
                fz, fy, fx = fractions[0, m], fractions[1, m], fractions[2, m]
                y[m, c] = linear(image, first[m] + c, steps, fz, fy, fx, is_volume)
    else:
        for m in range(count):
            fz, fy, fx, i = fractions[0, m], fractions[1, m], fractions[2, m], first[m]
            for c in range(channels):
                y[m, c] = linear(image, i + c, steps, fz, fy, fx, is_volume)


@jit(separate=True)
def _forward_block(number, x, points, reach, y):
    n, start, end = block_of(number, points)
    first, fractions = find_cells(points[n, start:end], x.shape[1:], reach)
    interpolate(x[n].reshape(-1), first, fractions, steps_of(x.shape[1:]), points.shape[2] == 3, y[n, start:end])


@jit
def _forward(x, points, reach, y):
    in_parallel(_forward_block, block_count(points), (x, points, reach, y))


@jit(inline="always")
def add_to_slice(image, i, down, right, fy, fx, g):
    """The transpose of `bilinear`: the four pixels of a cell get their shares of g."""
    lower = fy * g
    upper = g - lower
    image[i] += upper - fx * upper
    image[i + right] += fx * upper
    image[i + down] += lower - fx * lower
    image[i + down + right] += fx * lower


@jit(separate=True, fastmath=ELEMENTWISE)
def spread(g, first, fractions, steps, is_volume, image):
    """The pixels of the cells of a block get the gradients g (M, C) of its points."""
    behind, down, right = steps
    for m in range(U(g.shape[0])):
        fz, fy, fx, i = fractions[0, m], fractions[1, m], fractions[2, m], first[m]
        for c in range(U(g.shape[1])):
            if is_volume:
                add_to_slice(image, i + c, down, right, fy, fx, g[m, c] - fz * g[m, c])
                add_to_slice(image, i + behind + c, down, right, fy, fx, fz * g[m, c])
            else:
                add_to_slice(image, i + c, down, right, fy, fx, g[m, c])


@jit(separate=True, fastmath=ELEMENTWISE)
def spread_vectors(g, first, fractions, steps, is_volume, image):
    """The same for many channels: corner by corner, because a vector of channels is added to one pixel."""
    for m in range(U(g.shape[0])):
        for uz in range(2 if is_volume else 1):
            for uy in range(2):
                for ux in range(2):
                    share = fractions[2, m] if ux else 1 - fractions[2, m]
                    share *= fractions[1, m] if uy else 1 - fractions[1, m]
                    share *= fractions[0, m] if uz else 1 - fractions[0, m]
                    i = first[m] + U(uz) * steps[0] + U(uy) * steps[1] + U(ux) * steps[2]
                    weight = image.dtype.type(share)
                    for c in range(U(g.shape[1])):
                        image[i + c] += weight * g[m, c]


@jit(separate=True)
def spread_block(number, gy, points, reach, gx):
    n, start, end = block_of(number, points)
    first, fractions = find_cells(points[n, start:end], gx.shape[1:], reach)
    image, steps, is_volume = gx[n].reshape(-1), steps_of(gx.shape[1:]), points.shape[2] == 3
    if gy.shape[2] <= FEW:
        spread(gy[n, start:end], first, fractions, steps, is_volume, image)
    else:
        spread_vectors(gy[n, start:end], first, fractions, steps, is_volume, image)


@jit(separate=True)
def _backward_input_share(thread, gy, points, reach, sums):
    """sums[thread] = the gradient from the thread's share of the blocks."""
    gx = sums[thread]
    gx[:] = 0
    first, end = share_of(thread, len(sums), block_count(points))
    for number in range(first, end):
        spread_block(number, gy, points, reach, gx)


@jit
def _backward_input(gy, points, reach, sums):
    in_parallel(_backward_input_share, len(sums), (gy, points, reach, sums))


@jit(inline="always")
def slopes(image, i, down, right, fy, fx):
    """(the mean of four pixels, its derivative along y, along x)."""
    upper_step, lower_step = image[i + right] - image[i], image[i + down + right] - image[i + down]
    upper, lower = image[i] + fx * upper_step, image[i + down] + fx * lower_step
    return upper + fy * (lower - upper), lower - upper, upper_step + fy * (lower_step - upper_step)


@jit(inline="always")
def derivatives(image, i, steps, fz, fy, fx, is_volume):
    """The derivatives of `linear` along z, y and x."""
    behind, down, right = steps
    front, y, x = slopes(image, i, down, right, fy, fx)
    if is_volume:
        back, back_y, back_x = slopes(image, i + behind, down, right, fy, fx)
        return back - front, y + fz * (back_y - y), x + fz * (back_x - x)
    return front - front, y, x


@jit(separate=True, fastmath=ELEMENTWISE)
def add_slopes(image, g, first, fractions, steps, is_volume, total):
    """total (3, M) = the sums over c of g (M, C) times the derivatives along z, y and x."""
    total[:] = 0
    for c in range(U(g.shape[1])):
        for m in range(U(g.shape[0])):
            fz, fy, fx = fractions[0, m], fractions[1, m], fractions[2, m]
            z, y, x = derivatives(image, first[m] + c, steps, fz, fy, fx, is_volume)
            total[0, m] += g[m, c] * z
            total[1, m] += g[m, c] * y
            total[2, m] += g[m, c] * x


@jit(separate=True, fastmath=REDUCTION)
def add_slopes_of_vectors(image, g, first, fractions, steps, is_volume, total):
    """The same for many channels, with the channels in the lanes."""
    for m in range(U(g.shape[0])):
        fz, fy, fx = fractions[0, m], fractions[1, m], fractions[2, m]
        sum_z = sum_y = sum_x = total.dtype.type(0)
        for c in range(U(g.shape[1])):
            z, y, x = derivatives(image, first[m] + c, steps, fz, fy, fx, is_volume)
            sum_z += g[m, c] * z
            sum_y += g[m, c] * y
            sum_x += g[m, c] * x
        total[0, m], total[1, m], total[2, m] = sum_z, sum_y, sum_x


@jit(separate=True)
def _backward_points_block(number, x, gy, points, reach, gpoints):
    axes, (n, start, end) = points.shape[2], block_of(number, points)
    first, fractions = find_cells(points[n, start:end], x.shape[1:], reach)
    total, steps, image = np.empty_like(fractions), steps_of(x.shape[1:]), x[n].reshape(-1)
    if gy.shape[2] <= FEW:
        add_slopes(image, gy[n, start:end], first, fractions, steps, axes == 3, total)
    else:
        add_slopes_of_vectors(image, gy[n, start:end], first, fractions, steps, axes == 3, total)
    for a in range(axes):
        low, high = -reach, x.shape[4 - axes + a] - 3 + reach
        for m in range(start, end):
            moves = low < points[n, m, a] < high  # a clipped coordinate does not
            gpoints[n, m, a] = total[3 - axes + a, m - start] if moves else 0


@jit
def _backward_points(x, gy, points, reach, gpoints):
    in_parallel(_backward_points_block, block_count(points), (x, gy, points, reach, gpoints))
