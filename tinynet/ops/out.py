"""The arrays that kernels compute into: from the pool, or given as `out=`, which is filled whatever its layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import memory
from ..kernels import TIERS, device_of, tier_of


def is_large(x: Any) -> bool:
    """Whether an array is worth a kernel of ours: NumPy itself is as quick with small ones. On a GPU all are, and so
    that the emulator shows what happens there, in it too."""
    if not isinstance(x, np.ndarray) and device_of(x) == "cpu":
        return False
    return x.dtype.kind == "f" and (x.nbytes >= memory.SMALLEST or TIERS[tier_of(x)] == "cuda")


def contiguous_result(shape: tuple[int, ...], dtype: np.dtype, out: np.ndarray | None) -> np.ndarray:
    """The contiguous array to compute into: `out` itself if it is contiguous, else a new one."""
    return out if out is not None and out.flags.c_contiguous else memory.empty(shape, dtype)


def delivered(result: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """What the kernel returns: `out`, filled with the result if it is another array; without `out` the result."""
    if out is None or out is result:
        return result
    out[...] = result
    return out
