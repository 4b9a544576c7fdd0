"""Arrays as rows for kernels, read in place where that is easy.

A channel slice `x[..., a:b]` of a contiguous array is not contiguous itself, yet nearly: its pixels lie at a fixed
distance, the *pitch*, and the channels of a pixel side by side. The gradients of concat are such slices.
"""

from __future__ import annotations

from typing import Any

from ...backends.arrays import array_module


def rows_of(x: Any, width: int) -> tuple[Any, int]:
    """(flat, pitch): element j of row i of x, taken as rows of `width` elements, is flat[i * pitch + j].

    A view where x is contiguous or a channel slice of a contiguous array; otherwise of a copy. `flat` is 1-D and
    contiguous, so that a kernel compiled for it reads vectors; only the rows in it belong to x. x: NumPy or CuPy.
    """
    xp = array_module(x)
    if x.flags.c_contiguous or x.size == 0:
        return x.reshape(-1), width
    rows = x.reshape(-1, width)
    distance, step = rows.strides
    if (width > 1 and step != x.itemsize) or distance < 0 or distance % x.itemsize:
        return xp.ascontiguousarray(rows).reshape(-1), width
    pitch = distance // x.itemsize
    flat = xp.lib.stride_tricks.as_strided(rows, ((len(rows) - 1) * pitch + width,), (x.itemsize,))
    return flat, pitch
