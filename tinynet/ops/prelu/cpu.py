"""prelu in Numba: chunks of the flat array, in which the slopes of the channels repeat themselves."""

from __future__ import annotations

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import RANGE
from .._cpu.parts import whole

PERIOD = 64  # elements, at least: an inner loop of some vectors
U = np.uint64


def forward(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """y[r, c] = x[r, c] where it is positive, else slope[c] x[r, c]."""
    y = memory.empty(x.shape, x.dtype)
    _forward(whole(x).reshape(-1), _repeated(slope), y.reshape(-1))
    return y


def backward(gy: np.ndarray, x: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(gx, gslope): gx[r, c] = gy[r, c] or slope[c] gy[r, c]; gslope[c] = sum over r of min(x[r, c], 0) gy[r, c]."""
    gx, slopes = memory.empty(x.shape, x.dtype), _repeated(slope)
    sums = np.zeros((-(-x.size // _chunk(len(slopes))), len(slopes)), x.dtype)
    _backward(whole(gy).reshape(-1), whole(x).reshape(-1), slopes, gx.reshape(-1), sums)
    total = sums.sum(axis=0, dtype=np.float64).reshape(-1, len(slope)).sum(axis=0)
    return gx, total.astype(x.dtype)


def _repeated(slope: np.ndarray) -> np.ndarray:
    """The slopes, as often as needed to have at least PERIOD elements."""
    return np.tile(slope, -(-PERIOD // len(slope)))


@jit
def _chunk(period):
    """The elements that one thread takes at a time: whole periods."""
    return max(1, RANGE // period) * period


@jit(separate=True)
def _forward_chunk(part, x, slopes, y):
    period, chunk = len(slopes), _chunk(len(slopes))
    for start in range(part * chunk, min((part + 1) * chunk, len(x)), period):
        values, results = x[start : start + period], y[start : start + period]
        for i in range(U(len(values))):
            results[i] = values[i] if values[i] > 0 else slopes[i] * values[i]


@jit
def _forward(x, slopes, y):
    chunk = _chunk(len(slopes))
    in_parallel(_forward_chunk, (len(x) + chunk - 1) // chunk, (x, slopes, y))


@jit(separate=True)
def _backward_chunk(part, gy, x, slopes, gx, sums):
    """sums[part] (period,): the sums of min(x, 0) gy over a chunk, for each element of a period."""
    zero, period, chunk, total = x.dtype.type(0), len(slopes), _chunk(len(slopes)), sums[part]
    for start in range(part * chunk, min((part + 1) * chunk, len(x)), period):
        end = start + period
        values, gradients, results = x[start:end], gy[start:end], gx[start:end]
        for i in range(U(len(values))):
            is_positive, product = values[i] > 0, values[i] * gradients[i]
            results[i] = gradients[i] if is_positive else slopes[i] * gradients[i]
            total[i] += zero if is_positive else product


@jit
def _backward(gy, x, slopes, gx, sums):
    in_parallel(_backward_chunk, len(sums), (gy, x, slopes, gx, sums))
