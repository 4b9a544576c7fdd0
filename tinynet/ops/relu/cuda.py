"""ReLU on a GPU: activations.cu, a thread for each element or for four."""

from __future__ import annotations

from typing import Any

from .._cuda.activations import SOURCE
from .._cuda.elementwise import run


def forward(x: Any, *, out: Any = None) -> Any:
    """y = max(x, 0), NaN where x is NaN; any shape."""
    return run(SOURCE, "relu_forward", (x,), (), out)


def backward(gy: Any, y: Any, *, out: Any = None) -> Any:
    """gx = gy where y > 0, else 0."""
    return run(SOURCE, "relu_backward", (gy, y), (), out)
