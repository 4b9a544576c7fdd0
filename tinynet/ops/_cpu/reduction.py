"""What Numba kernels that add up many numbers share: fixed chunks, float64 sums, a fixed order.

A sum over all elements is cut into chunks of a fixed length. Each chunk is added up by one thread, in float64;
the partial sums are then added in order. Neither the number of threads nor their timing can change the result.
"""

from __future__ import annotations

import numpy as np

from ...backends.numba.jit import jit
from .fastmath import ELEMENTWISE

CHUNK = 4096  # elements: small enough for a buffer in the first-level cache

# A vectorised sum adds in another order than the source says: `reassoc` allows it. Only for plain sums: the
# exp of `fastmath` depends on the order of its operations.
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
