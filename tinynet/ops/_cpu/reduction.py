"""Sums of many elements in Numba kernels: fixed chunks, float64 sums, a fixed order.

A sum over all elements is cut into chunks of a fixed length. Each chunk is added up by one thread, in float64;
the partial sums are then added in order. Neither the number of threads nor their timing can change the result.
"""

from __future__ import annotations

import numpy as np

from ...backends.numba.jit import jit
from .fastmath import ELEMENTWISE

CHUNK = 4096  # elements: small enough for a buffer in the first-level cache

# `reassoc` allows a vectorized sum, which adds in another order than the source. For plain sums only: the exp of
# `fastmath.py` depends on the order of its operations.
REDUCTION = {*ELEMENTWISE, "reassoc"}


def chunk_count(length: int) -> int:
    """How many chunks `length` elements make; the last may be shorter."""
    return -(-length // CHUNK)


@jit(fastmath=REDUCTION)
def sum_float64(values):
    """The sum of a 1-D array, in float64."""
    total = 0.0
    for i in range(values.size):
        total += np.float64(values[i])
    return total
