"""What formulas of single elements are written with, so that one text serves arrays, Tensors and Numba.

Here are the functions for NumPy and, where a gradient needs them, for Tensors. `_cpu/fastmath.py` gives Numba its
versions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...engine import basic_ops
from ...engine.tensor import Tensor

# The numbers 1, 2 and 6 in formulas. For Numba, a plain 1 is an int64, and int64 with float32 gives float64; with an
# int8, float32 stays float32. `where` takes plain numbers.
ONE, TWO, SIX = np.int8(1), np.int8(2), np.int8(6)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y. Both are computed: without a jump, a loop is vectorized."""
    return (basic_ops.where if isinstance(condition, Tensor) else np.where)(condition, x, y)


def exp_of_nonpositive(x: Any) -> Any:
    """exp(x) for x <= 0."""
    return np.exp(x)


def expm1_of_nonpositive(x: Any) -> Any:
    """exp(x) - 1 for x <= 0, exact near 0 where exp(x) - 1 would cancel."""
    return basic_ops.exp(x) - 1 if isinstance(x, Tensor) else np.expm1(x)


def log1p_of_unit(u: Any) -> Any:
    """log(1 + u) for 0 <= u <= 1, exact for tiny u, where 1 + u would lose it."""
    return np.log1p(u)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return np.tanh(x)
