"""concat in Numba: each array is copied row by row, in parallel over runs of rows."""

from __future__ import annotations

import math

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import run_count, run_of
from .._shared.layout import rows_of

U = np.uint64


def forward(*arrays: np.ndarray, axis: int) -> np.ndarray:
    """y[.., o_k + c, ..] = arrays[k][.., c, ..]; axis counted from the front, 0 <= axis < ndim."""
    before, after = arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]
    length = sum(a.shape[axis] for a in arrays)
    y = memory.empty((*before, length, *after), arrays[0].dtype)
    pitch, start = length * math.prod(after), 0
    for a in arrays:
        width = math.prod(a.shape[axis:])
        if a.size:
            x, x_pitch = rows_of(a, width)
            _copy_rows(x, U(x_pitch), U(width), U(a.size // width), y.reshape(-1)[start:], U(pitch))
        start += width
    return y


@jit(separate=True)
def _copy_run(run, x, x_pitch, width, rows, y, y_pitch):
    first, end = run_of(run, rows, width)
    for r in range(first, end):
        for c in range(width):
            y[r * y_pitch + c] = x[r * x_pitch + c]


@jit
def _copy_rows(x, x_pitch, width, rows, y, y_pitch):
    in_parallel(_copy_run, run_count(rows, width), (x, x_pitch, width, rows, y, y_pitch))
