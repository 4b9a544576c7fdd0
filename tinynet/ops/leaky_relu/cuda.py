"""Leaky ReLU on a GPU: activations.cu, a thread for each element or for four."""

from __future__ import annotations

from typing import Any

from .._cuda.activations import SOURCE
from .._cuda.elementwise import run


def forward(x: Any, *, slope: float = 0.1, out: Any = None) -> Any:
    """y = x where x > 0, else slope x; any shape."""
    return run(SOURCE, "leaky_relu_forward", (x,), (slope,), out)


def backward(gy: Any, y: Any, *, slope: float = 0.1, out: Any = None) -> Any:
    """gx = gy where y > 0, else slope gy."""
    return run(SOURCE, "leaky_relu_backward", (gy, y), (slope,), out)
