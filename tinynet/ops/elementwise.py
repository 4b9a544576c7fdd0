"""What all element-wise Numba kernels share: they see flat, contiguous arrays, whatever the caller has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def run(
    kernel: Callable, arrays: tuple[np.ndarray, ...], scalars: tuple[float | np.integer, ...], out: np.ndarray | None
) -> np.ndarray:
    """kernel(*flat arrays, *scalars, flat result); the result has the shape and dtype of the first array.

    Scalars take that dtype too, a Python float would turn float32 arithmetic into float64; only NumPy integers
    stay what they are. An `out` that is not contiguous is filled through a temporary.
    """
    first = arrays[0]
    target = out if out is not None and out.flags.c_contiguous else np.empty(first.shape, first.dtype)
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    kernel(*flat, *(s if isinstance(s, np.integer) else first.dtype.type(s) for s in scalars), target.reshape(-1))
    if out is None:
        return target
    if out is not target:
        out[...] = target
    return out
