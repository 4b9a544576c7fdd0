"""The sigmoid on a GPU: activations.cu, a thread for each element or for four."""

from __future__ import annotations

from typing import Any

from .._cuda.activations import SOURCE
from .._cuda.elementwise import run


def forward(x: Any, *, out: Any = None) -> Any:
    """y = 1 / (1 + exp(-x)); any shape."""
    return run(SOURCE, "sigmoid_forward", (x,), (), out)


def backward(gy: Any, y: Any, *, out: Any = None) -> Any:
    """gx = gy y (1 - y)."""
    return run(SOURCE, "sigmoid_backward", (gy, y), (), out)
