"""What the elementwise Numba kernels share: they get flat, contiguous arrays.

Some work range by range: the task of a thread is RANGE neighboring elements. Kernels on rows (`_shared/layout.py`)
take a run of whole rows instead, with about as many elements.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit

U = np.uint64
RANGE = 16384  # elements: in float32 64 kB, small enough to stay in a core's cache, large enough to be worth a task
ALONE = 2 * RANGE  # elements: with fewer, waking the other threads would take longer than the work


def threads_for(size: int) -> int:
    """How many threads share the work on so many elements: one if they are few."""
    return 1 if size <= ALONE else numba.get_num_threads()


@jit
def range_count(size):
    """How many ranges `size` elements make: one if they are few; else the last may be shorter than the others."""
    return (size + RANGE - 1) // RANGE if size > ALONE else 1


@jit
def range_of(r, size):
    """(first, end) of range r of `size` elements, unsigned: for a signed index, Numba would test if it is negative."""
    return (U(r * RANGE), U(min((r + 1) * RANGE, size))) if size > ALONE else (U(0), U(size))


@jit
def rows_per_run(width):
    """How many rows of `width` elements a thread takes at a time; uint64, as is width.

    Kernels on rows have unsigned indices: a signed one might be negative and count from the end, and the compiler,
    which has to allow for that, would not vectorize.
    """
    return max(U(RANGE) // width, U(1))


@jit
def run_count(rows, width):
    """How many runs so many rows make; int64."""
    in_run = rows_per_run(U(width))
    return np.int64((U(rows) + in_run - U(1)) // in_run)


@jit
def run_of(run, rows, width):
    """(first, end): the rows of a run; uint64."""
    in_run = rows_per_run(U(width))
    first = U(run) * in_run
    return first, min(first + in_run, U(rows))


def run(
    kernel: Callable, arrays: tuple[np.ndarray, ...], scalars: tuple[float | np.integer | tuple, ...] = ()
) -> np.ndarray:
    """kernel(*flat arrays, *scalars, flat result); the result has the shape and dtype of the first array.

    Scalars take that dtype too, because a Python float would turn float32 arithmetic into float64; only NumPy integers
    and NamedTuples stay what they are.
    """
    first = arrays[0]
    target = memory.empty(first.shape, first.dtype)
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    kernel(
        *flat, *(s if isinstance(s, (np.integer, tuple)) else first.dtype.type(s) for s in scalars), target.reshape(-1)
    )
    return target
