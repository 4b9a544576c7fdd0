"""What the elementwise Numba kernels share: they get flat, contiguous arrays.

Some work range by range: the task of a thread is RANGE neighboring elements. Kernels on rows (`_shared/layout.py`)
take a run of whole rows instead, with about as many elements.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit

U = np.uint64
RANGE = 16384  # elements: in float32 64 kB, small enough to stay in a core's cache, large enough to be worth a task


@jit
def range_count(size):
    """How many ranges `size` elements make; the last may be shorter."""
    return (size + RANGE - 1) // RANGE


@jit
def rows_per_run(width):
    """How many rows of `width` elements a thread takes at a time; uint64, as is width.

    Kernels on rows have unsigned indices: a signed one might be negative and count from the end, and the compiler,
    which has to allow for that, would not vectorize.
    """
    return max(U(RANGE) // width, U(1))


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
