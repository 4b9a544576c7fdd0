"""prelu by its definition: right in any floating-point dtype. The other tiers must agree.

x (R, C), slope (C,), y (R, C).
"""

from __future__ import annotations

from typing import Any

from ...backends.arrays import array_module
from ...backends.registry import kernel


@kernel
def forward(x: Any, slope: Any) -> Any:
    """y[r, c] = x[r, c] where it is positive, else slope[c] x[r, c]."""
    return array_module(x).where(x > 0, x, slope * x)


@kernel
def backward(gy: Any, x: Any, slope: Any) -> tuple[Any, Any]:
    """(gx, gslope): gx[r, c] = gy[r, c] or slope[c] gy[r, c]; gslope[c] = sum over r of min(x[r, c], 0) gy[r, c]."""
    xp = array_module(x)
    return xp.where(x > 0, gy, slope * gy), xp.where(x > 0, 0, x * gy).sum(axis=0, dtype=x.dtype)
