"""Checks that the ops share; every message names the op, the argument, what it was and what was needed."""

from __future__ import annotations

import operator
from typing import Any


def check_float(op: str, **arguments: Any) -> None:
    """Raise TypeError unless all arguments are arrays or Tensors of one floating-point dtype; a `bias` may be None."""
    dtypes = {}
    for name, value in arguments.items():
        if value is None and name == "bias":
            continue
        if not hasattr(value, "dtype"):
            raise TypeError(f"{op}: {name} is a {type(value).__name__}; a Tensor or an array is needed")
        if value.dtype.kind != "f":
            raise TypeError(f"{op}: {name} has dtype {value.dtype}; a floating-point one is needed")
        dtypes[name] = value.dtype
    if len(set(dtypes.values())) > 1:
        listed = ", ".join(f"{name} is {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"{op}: {listed}; all must have one dtype (convert with .astype)")


def check_ndim(op: str, name: str, value: Any, ndim: int, meaning: str) -> None:
    """Raise ValueError unless `value` has `ndim` axes, whose meaning the message gives."""
    if value.ndim != ndim:
        raise ValueError(f"{op}: {name} has shape {tuple(value.shape)}; {ndim} axes {meaning} are needed")


def positive(op: str, name: str, value: float, hint: str = "") -> float:
    """The value as a float. Raises ValueError, with the hint at its end, unless it is positive."""
    if not value > 0:
        raise ValueError(f"{op}: {name} is {value}; it must be positive{hint}")
    return float(value)


def pair(op: str, name: str, value: int | tuple[int, int], at_least: int) -> tuple[int, int]:
    """(y, x) from a number for both or from a pair. Raises ValueError unless both are integers >= at_least."""
    return integers(op, name, value, at_least, "(y, x)")


def integers(op: str, name: str, value: int | tuple[int, ...], at_least: int, axes: str) -> tuple[int, ...]:
    """An integer for each of the axes, such as "(z, y, x)", from one number for all or from a tuple.

    Raises ValueError unless all are integers >= at_least.
    """
    count = axes.count(",") + 1
    try:
        numbers = tuple(map(operator.index, value if isinstance(value, (tuple, list)) else [value] * count))
    except TypeError:
        numbers = ()
    if len(numbers) != count:
        kind = {2: "pair", 3: "triple"}[count]
        raise ValueError(f"{op}: {name} is {value!r}; an integer or a {kind} {axes} of integers is needed")
    if min(numbers) < at_least:
        raise ValueError(f"{op}: {name} is {value}; it must be at least {at_least}")
    return numbers
