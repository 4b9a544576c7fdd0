"""accumulate in Numba: one parallel loop over runs of pixels."""

from __future__ import annotations

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import range_count, range_of, run_count, run_of
from .._shared.layout import rows_of

U = np.uint64


def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z[i] = x[i] + y[i]; x and y of one shape and dtype, each contiguous or a channel slice, or they are copied."""
    z = memory.empty(x.shape, x.dtype)
    if x.flags.c_contiguous and y.flags.c_contiguous:
        _sum(x.reshape(-1), y.reshape(-1), z.reshape(-1))
    else:
        channels = x.shape[-1]
        (x, x_pitch), (y, y_pitch) = rows_of(x, channels), rows_of(y, channels)
        _sum_rows(x, U(x_pitch), y, U(y_pitch), U(channels), z.reshape(-1))
    return z


@jit(separate=True)
def _sum_range(r, x, y, z):
    first, end = range_of(r, z.size)
    for i in range(first, end):
        z[i] = x[i] + y[i]


@jit
def _sum(x, y, z):
    in_parallel(_sum_range, range_count(z.size), (x, y, z))


@jit(separate=True)
def _sum_run(run, x, x_pitch, y, y_pitch, channels, z):
    first, end = run_of(run, U(z.size) // channels, channels)
    for p in range(first, end):
        for c in range(channels):
            z[p * channels + c] = x[p * x_pitch + c] + y[p * y_pitch + c]


@jit
def _sum_rows(x, x_pitch, y, y_pitch, channels, z):
    runs = run_count(U(z.size) // channels, channels)
    in_parallel(_sum_run, runs, (x, x_pitch, y, y_pitch, channels, z))
