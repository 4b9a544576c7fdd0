"""Which rooms of tinynet/ops hold what, and what comparing their kernels takes."""

from __future__ import annotations

import importlib.util

import numpy as np

from tinynet.kernels import TIERS, implementations, ops

# Operations on Tensors; the others hold kernels without a gradient, such as the optimiser's.
DIFFERENTIABLE = [op for op in ops() if importlib.util.find_spec(f"tinynet.ops.{op}.op")]
FAST_TIERS = [tier for tier in TIERS if tier != "reference"]
VARIETIES = [(op, tier, name) for op in ops() for tier in FAST_TIERS for name in implementations(op, tier)]


def cast(value, dtype):
    """Float arrays in `dtype`, those in a list or tuple too; everything else as it is."""
    if isinstance(value, (list, tuple)):
        return type(value)(cast(v, dtype) for v in value)
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(dtype) if is_float else value


def spread(value):
    """The same numbers in memory that is not contiguous along any axis."""
    if isinstance(value, (list, tuple)):
        return type(value)(spread(v) for v in value)
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return value
    wide = np.zeros([2 * n for n in value.shape], value.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in value.shape)]
    view[...] = value
    return view


def poisoned(like):
    """An array of the same shape and dtype, full of what no kernel computes; for a tuple of arrays a tuple."""
    if isinstance(like, tuple):
        return tuple(map(poisoned, like))
    return np.full_like(like, np.nan if like.dtype.kind == "f" else np.iinfo(like.dtype).max)


def tolerance(dtype, terms: int) -> float:
    """Rounding errors of a sum grow like the square root of its length when their signs are random."""
    return 8 * float(np.finfo(dtype).eps) * max(1.0, np.sqrt(terms))


def assert_close(got, want, dtype, terms, what):
    assert got.shape == want.shape, f"{what}: shape {got.shape}, the reference has {want.shape}"
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    scale = np.max(np.abs(want), initial=1.0)
    np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=tolerance(dtype, terms), err_msg=what)
