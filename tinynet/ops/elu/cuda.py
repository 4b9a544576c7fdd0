"""ELU on a GPU: activations.cu, a thread for each element or for four."""

from __future__ import annotations

from typing import Any

from .._cuda.activations import SOURCE
from .._cuda.elementwise import run


def forward(x: Any, *, alpha: float = 1.0, out: Any = None) -> Any:
    """y = x where x > 0, else alpha (exp(x) - 1); any shape."""
    return run(SOURCE, "elu_forward", (x,), (alpha,), out)


def backward(gy: Any, y: Any, *, alpha: float = 1.0, out: Any = None) -> Any:
    """gx = gy where y > 0, else gy (y + alpha)."""
    return run(SOURCE, "elu_backward", (gy, y), (alpha,), out)
