"""Arrays as rows for Numba kernels, read in place where that is easy.

A channel slice `x[..., a:b]` of a contiguous array is not contiguous itself, yet nearly: its pixels lie at a fixed
distance, the *pitch*, and the channels of a pixel side by side. The gradients of concat are such slices.
"""

from __future__ import annotations

import numpy as np

from .jit import jit

U = np.uint64
RUN = U(16384)  # elements that a thread moves at a time


def rows_of(x: np.ndarray, width: int) -> tuple[np.ndarray, int]:
    """(flat, pitch): element j of row i of x, taken as rows of `width` elements, is flat[i * pitch + j].

    A view where x is contiguous or a channel slice of a contiguous array; otherwise of a copy. `flat` is 1-D and
    contiguous, so that a kernel compiled for it reads vectors; only the rows in it belong to x.
    """
    if x.flags.c_contiguous or x.size == 0:
        return x.reshape(-1), width
    rows = x.reshape(-1, width)
    distance, step = rows.strides
    if (width > 1 and step != x.itemsize) or distance < 0 or distance % x.itemsize:
        return np.ascontiguousarray(rows).reshape(-1), width
    pitch = distance // x.itemsize
    flat = np.lib.stride_tricks.as_strided(rows, ((len(rows) - 1) * pitch + width,), (x.itemsize,))
    return flat, pitch


@jit
def rows_per_run(width):
    """How many rows of `width` elements a thread takes at a time; uint64, as is width.

    Kernels on rows have unsigned indices: a signed one might be negative and count from the end, and the compiler,
    which has to allow for that, would not vectorise.
    """
    return max(RUN // width, U(1))
