"""Checks of the arguments of optimizers and schedules. Each raises ValueError, or TypeError for a wrong type."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...engine.tensor import Tensor
from ..module import Module, Parameter

_NEEDED = "a model, or a list of its tensors such as model.parameters(), is needed"


def tensors_of(name: str, parameters: Any) -> list[Tensor]:
    """The tensors of a model, of one tensor, or of an iterable of tensors. Raises TypeError for anything else."""
    if isinstance(parameters, Tensor):
        return [parameters]
    if isinstance(parameters, Module):
        return list(parameters.parameters())
    # An optimizer saves its state by position, and a set has no order. A list of arrays is refused below.
    unordered = isinstance(parameters, (Mapping, set, frozenset))
    if unordered or hasattr(parameters, "dtype") or not isinstance(parameters, Iterable):
        raise TypeError(f"{name}: parameters is a {type(parameters).__name__}; {_NEEDED}")
    tensors = list(parameters)
    for i, p in enumerate(tensors):
        if not isinstance(p, Tensor):
            raise TypeError(f"{name}: parameters[{i}] is a {type(p).__name__}; a Tensor is needed: {_NEEDED}")
    return tensors


def check_trainable(name: str, tensors: list[Tensor]) -> None:
    """Refuse tensors that an optimizer would change without any effect, or never."""
    if not tensors:
        raise ValueError(f"{name}: parameters is empty (a generator is empty once it was used); {_NEEDED}")
    if len({id(p) for p in tensors}) < len(tensors):
        raise ValueError(f"{name}: a parameter is listed twice, and each step would update it twice; list it once")
    for i, p in enumerate(tensors):
        what = f"{name}: parameters[{i}], of shape {p.shape},"
        if not p.is_leaf:
            raise ValueError(
                f"{what} was computed from other tensors, so the next forward pass would not see its change; "
                "pass a leaf: compute its values first, then tn.tensor(values, requires_grad=True)"
            )
        if not getattr(p.data.flags, "writeable", True):
            raise ValueError(f"{what} lies in memory that must not be written; make it of a copy: array.copy()")
        if not (p.requires_grad or isinstance(p, Parameter)):
            raise ValueError(f"{what} requires no gradient; create it with tn.tensor(values, requires_grad=True)")
    if not any(p.requires_grad for p in tensors):
        raise ValueError(f"{name}: all parameters are frozen, so nothing would be trained; call model.unfreeze() first")


def gradients_of(name: str, tensors: list[Tensor]) -> dict[int, Any]:
    """Position -> the array of the gradient, for the tensors that have one. Raises TypeError if it does not fit."""
    found = {}
    for i, p in enumerate(tensors):
        g = p.grad
        if g is None:
            continue
        if not isinstance(g, Tensor) or g.shape != p.shape or g.dtype != p.dtype:  # a kernel would read other memory
            given = f"{g.dtype} {g.shape}" if isinstance(g, Tensor) else f"a {type(g).__name__}"
            raise TypeError(
                f"{name}: the gradient of parameters[{i}] is {given}; a Tensor like the parameter is needed, "
                f"{p.dtype} {p.shape}"
            )
        found[i] = g.data
    return found


def check_unit(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}: {argument} is {value}; it must lie in 0 <= {argument} < 1")


def check_not_negative(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not (isinstance(value, (int, float, np.number)) and 0 <= value < math.inf):
            raise ValueError(f"{name}: {argument} is {value!r}; it must be a finite number, not negative")


def check_positive(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: {argument} is {value}; it must be positive")


def check_steps(name: str, **values: int) -> None:
    for argument, value in values.items():
        if value < 1:
            raise ValueError(f"{name}: {argument} is {value}; it must be at least 1")


def check_decay(name: str, decay: float) -> None:
    if not 0 < decay <= 1:
        raise ValueError(f"{name}: decay is {decay}; it must lie in 0 < decay <= 1")
