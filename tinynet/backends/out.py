"""The arrays that kernels compute into: from the pool, or given as `out=`, which is filled whatever its layout."""

from __future__ import annotations

import numpy as np

from . import memory


def contiguous_result(shape: tuple[int, ...], dtype: np.dtype, out: np.ndarray | None) -> np.ndarray:
    """The contiguous array to compute into: `out` itself if it is contiguous, else a new one."""
    return out if out is not None and out.flags.c_contiguous else memory.empty(shape, dtype)


def delivered(result: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """What the kernel returns: `out`, filled with the result if it is another array; without `out` the result."""
    if out is None or out is result:
        return result
    out[...] = result
    return out
