"""conv2d, `depthwise`: every channel is a group of its own, as in MobileNet and EfficientNet.

There is no sum over channels, so there is no matrix product: the lanes of a vector are neighboring channels, and each
of them adds up its own KH KW products:

    y[n, oy, ox, c] = b[c] + sum over ky, kx of x[n, iy, ix, c] w[ky, kx, c]

That would be one load of x and one of w for each multiply-add. So four neighboring outputs of a row are computed
together, for which a weight is loaded once (depthwise_vectors.py). At the border, the taps that lie in the image are a
smaller kernel: a view of w. backward_input is a correlation of gy; with a stride, one for each phase of the pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import lanes_of
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.elementwise import threads_for
from .._cpu.parts import whole
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, Pair, phase
from .depthwise_vectors import outputs_block, weights_block
from .epilogue import finish


def forward(x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
    """y[n, oy, ox, c] = epilogue(b[c] + sum over ky, kx of x[n, iy, ix, c] w[ky, kx, 0, c])."""
    x = whole(x)
    y = memory.empty((len(x), *geometry.output_size(x.shape[1:3], w.shape[:2]), w.shape[3]), x.dtype)
    start = np.zeros(w.shape[3], x.dtype) if b is None else whole(b)
    _correlate(x, whole(w[:, :, 0]), start, (*geometry.stride, *geometry.padding), y)
    finish(y, epilogue)
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx[n, iy, ix, c] = sum over the taps through which y reads this pixel of gy[n, oy, ox, c] w[ky, kx, 0, c]."""
    gx = memory.empty((len(gy), *input_size, gy.shape[3]), gy.dtype)
    gy, zeros, (sy, sx), (py, px) = whole(gy), np.zeros(gy.shape[3], gy.dtype), *geometry[:2]
    for a in range(min(sy, input_size[0])):
        rows = phase(a, w.shape[0], sy, py, 1)
        for b in range(min(sx, input_size[1])):
            columns = phase(b, w.shape[1], sx, px, 1)
            taps = whole(w[rows.taps][:, columns.taps, 0])
            _correlate(gy, taps, zeros, (1, 1, rows.padding, columns.padding), gx[:, a::sy, b::sx])
    return gx


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gw[ky, kx, 0, c] = sum over n, oy, ox of x[n, iy, ix, c] gy[n, oy, ox, c]."""
    channels, lanes = x.shape[3], lanes_of(x.dtype)
    sums = np.zeros((numba.get_num_threads(), *kernel_size, channels + lanes), x.dtype)
    _accumulate(*kernel_size)(whole(x), whole(gy), (*geometry.stride, *geometry.padding), sums)
    gw = sums.sum(axis=0)
    if tail := channels % lanes:
        gw[..., channels - tail : channels] += gw[..., -tail:]
    return np.ascontiguousarray(gw[:, :, None, :channels])


# ------------------------------------------------------------------------------------- the loops over rows
# steps: stride and padding along y and x, (sy, sx, py, px).
@jit
def valid_taps(first, size, kernel):
    """(start, end) of the taps whose pixels first + k lie in the image."""
    return min(max(0, -first), kernel), max(min(kernel, size - first), 0)


@jit
def interior(size, outputs, kernel, stride, padding):
    """(first, end): the outputs whose taps all lie in the image, for one axis."""
    first = min((max(padding, 0) + stride - 1) // stride, outputs)
    return first, max(min((size + padding - kernel) // stride + 1, outputs), first)


_one_output, _four_at_the_border = outputs_block(1), outputs_block(4)


def _correlate(x: np.ndarray, w: np.ndarray, start: np.ndarray, steps: tuple[int, ...], y: np.ndarray) -> None:
    """y = start + the correlation of x with w."""
    kh, kw = w.shape[:2]
    threads = threads_for(y.size * max(1, kh * kw))  # also without a tap: a phase may have none, and y is still written
    _correlation(kh, kw)(threads, x, w, start, steps, y)


@functools.cache
def _correlation(kh: int, kw: int) -> Callable:
    """correlate(threads, x, w, start, steps, y) for kernels (KH, KW), whose taps are written out one by one."""
    four_outputs = outputs_block(4, (kh, kw))

    @jit(separate=True)
    def row(image, w, start, steps, oy, y):
        """One row of outputs, y (OW, C)."""
        sy, sx, py, px = steps
        top, ox = oy * sy - py, 0
        ky, end_ky = valid_taps(top, image.shape[0], kh)
        first, end = interior(image.shape[1], len(y), kw, sx, px)
        is_whole = end_ky - ky == kh  # no tap is above or below the image
        while ox < len(y):
            if first <= ox < end and first + 4 <= end:
                ox = min(ox, end - 4)  # the last four may overlap those before
                if is_whole:
                    four_outputs(image[top:], ox * sx - px, sx, w, start, y[ox : ox + 4])
                else:
                    taps = w[ky : max(ky, end_ky)]
                    _four_at_the_border(image[top + ky :], ox * sx - px, sx, taps, start, y[ox : ox + 4])
                ox += 4
            else:
                left = ox * sx - px
                kx, end_kx = valid_taps(left, image.shape[1], kw)
                taps = w[ky : max(ky, end_ky), kx : max(kx, end_kx)]
                _one_output(image[top + ky :], left + kx, sx, taps, start, y[ox : ox + 1])
                ox += 1

    @jit(separate=True)
    def share(thread, threads, x, w, start, steps, y):
        first, end = share_of(thread, threads, len(y) * y.shape[1])
        for line in range(first, end):
            n, oy = divmod(line, y.shape[1])
            row(x[n], w, start, steps, oy, y[n, oy])

    @jit
    def correlate(threads, x, w, start, steps, y):
        in_parallel(share, threads, (threads, x, w, start, steps, y))

    return correlate


@functools.cache
def _accumulate(kh: int, kw: int) -> Callable:
    """sums[thread] (KH, KW, C + lanes) = the gradient of the weights over the thread's share of the rows of gy."""
    all_taps, row_of_taps, one_tap = weights_block(kh, kw), weights_block(1, kw), weights_block(1, 1)

    @jit(separate=True)
    def add_row(image, g, steps, oy, total):
        """total += what one row of outputs adds; g (OW, C)."""
        sy, sx, py, px = steps
        height, width, _ = image.shape
        first, end = interior(width, len(g), kw, sx, px)
        ky, end_ky = valid_taps(oy * sy - py, height, kh)
        inside, left = g[first:end], first * sx - px
        if end_ky - ky == kh:
            all_taps(image, oy * sy - py, left, sx, inside, total)
        else:
            for k in range(ky, end_ky):
                row_of_taps(image, oy * sy - py + k, left, sx, inside, total[k : k + 1])
        for ox in range(len(g)):
            if ox < first or ox >= end:
                for k in range(ky, end_ky):
                    for kx in range(kw):
                        ix = ox * sx - px + kx
                        if 0 <= ix < width:
                            one_tap(image, oy * sy - py + k, ix, sx, g[ox : ox + 1], total[k : k + 1, kx : kx + 1])

    @jit(separate=True)
    def share(thread, x, gy, steps, sums):
        part = np.zeros_like(sums[thread])
        first, end = share_of(thread, len(sums), len(gy) * gy.shape[1])
        for line in range(first, end):
            n, oy = divmod(line, gy.shape[1])
            add_row(x[n], gy[n, oy], steps, oy, part)
            if (line + 1) % rows_at_once(gy.shape[2]) == 0 or line + 1 == end:
                add_and_clear(part.reshape(-1), sums[thread].reshape(-1))

    @jit
    def accumulate(x, gy, steps, sums):
        in_parallel(share, len(sums), (x, gy, steps, sums))

    return accumulate


@jit
def rows_at_once(width):
    """Rows whose sum is complete before it is added to the total: less rounding error than one long sum."""
    return max(1, 256 // max(1, width))


@jit(separate=True)
def add_and_clear(part, total):
    for i in range(len(part)):
        total[i] += part[i]
        part[i] = 0
