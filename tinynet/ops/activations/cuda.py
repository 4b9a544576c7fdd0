"""Activations on a GPU: activations.cu, a thread for each element or for four."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...backends.cuda.source import Source
from .._cuda.elementwise import VARIANTS, run
from .entries import ACTIVATIONS
from .op import Activation

SOURCE = Source(Path(__file__).with_name("activations.cu"), VARIANTS)


def _kernels(activation: type[Activation]) -> SimpleNamespace:
    """The kernels `forward` and `backward`, with the parameters of the formulas."""

    @functools.wraps(activation.value)
    def forward(x: Any, *parameter: float, **named: float) -> Any:
        return run(SOURCE, f"{activation.op}_forward", (x,), (*parameter, *named.values()))

    @functools.wraps(activation.gradient)
    def backward(gy: Any, y: Any, *parameter: float, **named: float) -> Any:
        return run(SOURCE, f"{activation.op}_backward", (gy, y), (*parameter, *named.values()))

    return SimpleNamespace(forward=forward, backward=backward)


PARTS = {op: _kernels(activation) for op, activation in ACTIVATIONS.items()}
