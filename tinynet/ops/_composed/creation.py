"""New tensors: zeros, ones, full, eye, arange, linspace, rand, randn, randint.

They are made on the CPU; `.to("cuda")` moves them. Each call of rand, randn and randint takes a random stream of its
own, which `tn.seed` determines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...engine.arguments import data_of
from ...engine.random import generator
from ...engine.tensor import Tensor, tensor


def _maker(name: str, doc: str, make: Callable) -> Callable[..., Tensor]:
    def function(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
        is_tuple = len(shape) == 1 and isinstance(shape[0], (tuple, list))
        return Tensor(make(shape[0] if is_tuple else shape, dtype=np.dtype(dtype)), requires_grad)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} The shape is given as numbers or as one tuple: {name}(2, 3), {name}((2, 3))."
    return function


zeros = _maker("zeros", "A tensor of zeros.", np.zeros)
ones = _maker("ones", "A tensor of ones.", np.ones)
rand = _maker("rand", "Random numbers, uniform in 0 <= x < 1.", lambda *a, **dtype: generator().random(*a, **dtype))
randn = _maker("randn", "Standard normal random numbers.", lambda *a, **dtype: generator().standard_normal(*a, **dtype))


def randint(low: int, high: int, shape: int | Sequence[int]) -> Tensor:
    """Random integers, int64, in low <= x < high."""
    return Tensor(generator().integers(low, high, shape))


def full(shape: int | Sequence[int], value: Any, dtype: Any = None) -> Tensor:
    """A tensor whose elements are all `value`; a Python float gives float32."""
    return Tensor(np.full(shape, tensor(value, dtype).data))


def zeros_like(x: Any) -> Tensor:
    """Zeros of the shape and dtype of x, on its device."""
    return Tensor(array_module(data_of(x)).zeros_like(data_of(x)))


def ones_like(x: Any) -> Tensor:
    """Ones of the shape and dtype of x, on its device."""
    return Tensor(array_module(data_of(x)).ones_like(data_of(x)))


def eye(n: int, m: int | None = None, dtype: Any = np.float32) -> Tensor:
    """The identity matrix (n, n); with m, ones on the main diagonal of (n, m)."""
    return Tensor(np.eye(n, m, dtype=dtype))


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... before `stop`; arange(n) is 0 .. n - 1. Integers give int64, floats float32."""
    values = np.arange(start, stop, step) if stop is not None else np.arange(0, start, step)
    return tensor(values, dtype or (np.float32 if values.dtype.kind == "f" else None))


def linspace(start: float, stop: float, steps: int, dtype: Any = np.float32) -> Tensor:
    """`steps` numbers from start to stop, both included, with equal distances."""
    return Tensor(np.linspace(start, stop, steps, dtype=dtype))
