"""concat and stack on Tensors: checks, and the gradient cut apart again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...backends.registry import is_large
from ...engine.arguments import kept_shape, one, sorted_axes
from ...engine.basic_ops import expand_dims
from ...engine.tensor import Function
from .reference import forward


def concat(arrays: Sequence[Any], axis: int = 0) -> Any:
    """The arrays one behind the other along an existing axis; all other axes must agree (ValueError).

    A convolution that reads joined channels needs no copy of them: `conv2d([x1, x2], w)`.
    """
    arrays = _same_kind("concat", arrays)
    first = arrays[0]
    (axis,) = sorted_axes("concat", first, axis)
    for i, a in enumerate(arrays):
        if a.ndim != first.ndim or kept_shape(a.shape, (axis,)) != kept_shape(first.shape, (axis,)):
            raise ValueError(
                f"concat: arrays[0] {first.shape} and arrays[{i}] {a.shape} must agree but for axis {axis}"
            )
    return Concat.apply(*arrays, axis=axis)


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Arrays of one shape side by side along a new axis at position `axis` of the result."""
    arrays = _same_kind("stack", arrays)
    for i, a in enumerate(arrays):
        if a.shape != arrays[0].shape:
            raise ValueError(f"stack: arrays[0] {arrays[0].shape} and arrays[{i}] {a.shape} must have one shape")
    return concat([expand_dims(a, axis) for a in arrays], axis)


def _same_kind(op: str, arrays: Sequence[Any]) -> list[Any]:
    """Check the arrays of concat and stack: at least one, all of the same dtype."""
    if not isinstance(arrays, (list, tuple)):
        raise TypeError(f"{op}: arrays is a {type(arrays).__name__}; a list or tuple of Tensors or arrays is needed")
    if not arrays:
        raise ValueError(f"{op}: no arrays given; at least one is needed")
    arrays = [one(op, a, f"arrays[{i}]") for i, a in enumerate(arrays)]
    for i, a in enumerate(arrays):
        if a.dtype != arrays[0].dtype:
            raise TypeError(f"{op}: arrays[0] is {arrays[0].dtype}, arrays[{i}] is {a.dtype}; convert one with .astype")
    return arrays


class Concat(Function):
    """y = the arrays one behind the other; their gradients are views of gy."""

    def forward(self, *arrays, axis):
        self.axis = axis
        self.sizes = [a.shape[axis] for a in arrays]
        if any(map(is_large, arrays)):
            return forward(*arrays, axis=axis)
        return array_module(arrays[0]).concatenate(arrays, axis=axis)

    def backward(self, gy):
        ends = np.cumsum(self.sizes).tolist()
        before = (slice(None),) * self.axis
        return tuple(gy[(*before, slice(end - n, end))] for n, end in zip(self.sizes, ends))
