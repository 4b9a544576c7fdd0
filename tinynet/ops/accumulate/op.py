"""accumulate on Tensors: what `backward()` adds gradients with."""

from __future__ import annotations

from typing import Any

from ...kernels import kernel
from ...tensor import Function
from ..out import is_large


def accumulate(x: Any, y: Any) -> Any:
    """x + y for two Tensors, or two arrays, of one shape, dtype and device: the engine's; users write x + y."""
    return Accumulate.apply(x, y)


class Accumulate(Function):
    """z = x + y."""

    def forward(self, x, y):
        return kernel("accumulate", "forward")(x, y) if is_large(x) else x + y

    def backward(self, gz):
        return gz, gz
