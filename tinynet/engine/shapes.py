"""Shapes, sums and indexing. All these operations are linear: backward is another of them, the transpose.

    reshape       <->  reshape to the old shape
    transpose     <->  transpose in the inverse order
    broadcast_to  <->  sum, sum_to
    pad, put      <->  getitem

`sum` hides Python's builtin here. `builtins.any` and `builtins.all` are written out, because tinynet has operations of
these names in `reductions.py`.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backends.arrays import array_module, device_of, plain_array
from ..backends.devices import to_device
from .arguments import Axis, astype, data_of, is_array, kept_shape, one, sorted_axes
from .tensor import Function, Tensor, is_grad_enabled


class _Reshape(Function):
    def forward(self, x, *, shape):
        self.shape = x.shape
        return x.reshape(shape)

    def backward(self, gy):
        return reshape(gy, self.shape)


class _Transpose(Function):
    def forward(self, x, *, axes):
        self.axes = axes
        return x.transpose(axes)

    def backward(self, gy):
        inverse = tuple(self.axes.index(i) for i in range(len(self.axes)))
        return transpose(gy, inverse)


class _BroadcastTo(Function):
    def forward(self, x, *, shape):
        self.shape = x.shape
        return array_module(x).broadcast_to(x, shape)

    def backward(self, gy):
        return sum_to(gy, self.shape)


class _Sum(Function):
    def forward(self, x, *, axes, keepdims):
        self.shape, self.kept_shape = x.shape, kept_shape(x.shape, axes)
        if x.dtype in (np.float32, np.float16):
            # A sum of a million float32 elements, one after the other, loses three digits. float64 costs little.
            return x.sum(axis=axes, keepdims=keepdims, dtype=np.float64).astype(x.dtype)
        return x.sum(axis=axes, keepdims=keepdims)

    def backward(self, gy):
        return broadcast_to(reshape(gy, self.kept_shape), self.shape)


class _Pad(Function):
    def forward(self, x, *, widths, value):
        self.inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))
        return array_module(x).pad(x, widths, constant_values=value)

    def backward(self, gy):
        return gy[self.inside]


def reshape(x: Any, *shape: Any) -> Any:
    """x with another shape and the same elements in row-major order: reshape(x, (2, -1)) or reshape(x, 2, -1).

    One length may be -1: it is computed. The result is a view if the memory layout allows it. Raises ValueError if the
    number of elements does not fit.
    """
    x = one("reshape", x)
    wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if wanted == x.shape:
        return x
    known = math.prod(n for n in wanted if n != -1)
    unknowns = wanted.count(-1)
    fits = known == x.size if unknowns == 0 else unknowns == 1 and known > 0 and x.size % known == 0
    if not fits or builtins.any(n < -1 for n in wanted):
        raise ValueError(
            f"reshape: x {x.shape} has {x.size} elements, they do not fill shape {wanted}; the lengths must multiply "
            "to that number, at most one may be -1"
        )
    return _Reshape.apply(x, shape=tuple(x.size // known if n == -1 else int(n) for n in wanted))


def flatten(x: Any) -> Any:
    """All elements in row-major order along one axis."""
    x = one("flatten", x)
    return reshape(x, (x.size,))


def transpose(x: Any, *axes: Any) -> Any:
    """x with its axes in another order: axis i of the result is axis axes[i] of x. Without `axes`: reversed.

    transpose(x, (0, 2, 1)) or transpose(x, 0, 2, 1). The result is a view. Raises ValueError if `axes` is not a
    permutation.
    """
    x = one("transpose", x)
    unchanged = tuple(range(x.ndim))
    if not axes:
        axes = (unchanged[::-1],)
    order = tuple(axes[0]) if isinstance(axes[0], (tuple, list)) else axes
    positive = tuple(a % x.ndim if -x.ndim <= a < x.ndim else a for a in order)
    if tuple(sorted(positive)) != unchanged:
        raise ValueError(
            f"transpose: axes {order} is not a permutation of the {x.ndim} axes of x {x.shape}; swapaxes exchanges two"
        )
    if axes == (0, 1) and x.ndim == 2:  # in PyTorch this exchanges the two axes
        raise ValueError("transpose: axes (0, 1) would leave a matrix as it is; write x.T or swapaxes(0, 1)")
    return x if positive == unchanged else _Transpose.apply(x, axes=positive)


def swapaxes(x: Any, first: int, second: int) -> Any:
    """x with two axes exchanged."""
    x = one("swapaxes", x)
    order = list(range(x.ndim))
    ((a,), (b,)) = sorted_axes("swapaxes", x, first), sorted_axes("swapaxes", x, second)
    order[a], order[b] = b, a
    return transpose(x, tuple(order))


def squeeze(x: Any, axis: Axis = None) -> Any:
    """x without its axes of length 1, or without the axes in `axis`. Raises ValueError if one of them is longer."""
    x = one("squeeze", x)
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else sorted_axes("squeeze", x, axis)
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of x {x.shape} has {x.shape[a]} elements; only 1 can be removed")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def expand_dims(x: Any, axis: int) -> Any:
    """x with a new axis of length 1 at position `axis` of the result."""
    x = one("expand_dims", x)
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise ValueError(f"expand_dims: axis {axis} is outside the result, which has {x.ndim + 1} axes; x is {x.shape}")
    axis %= x.ndim + 1
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _broadcasts(shape: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    """True if an array of shape `shape` can be broadcast to shape `larger`."""
    front = len(larger) - len(shape)
    return front >= 0 and builtins.all(n in (1, m) for n, m in zip(shape, larger[front:]))


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Any:
    """x repeated along axes of length 1 and along new axes in front, without copying: the result is read-only.

    Raises ValueError if x does not broadcast to `shape`.
    """
    x = one("broadcast_to", x)
    shape = tuple(shape)
    if shape == x.shape:
        return x
    if not _broadcasts(x.shape, shape):
        raise ValueError(f"broadcast_to: x {x.shape} does not broadcast to shape {shape}")
    return _BroadcastTo.apply(x, shape=shape)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum over `axis` (an int, a tuple, or None for all). The sum over no elements is 0.

    float32 is summed in float64 and rounded once. Integers and booleans give NumPy's integer sum.
    """
    x = one("sum", x)
    axes = sorted_axes("sum", x, axis)
    return _Sum.apply(x, axes=axes, keepdims=keepdims)


def sum_to(x: Any, shape: tuple[int, ...]) -> Any:
    """x summed over the axes along which broadcasting from `shape` to x.shape repeats: the transpose of broadcast_to.

    Returns x itself if the shapes agree. Raises ValueError if `shape` does not broadcast to x.shape.
    """
    x = one("sum_to", x)
    shape = tuple(shape)
    if shape == x.shape:
        return x
    if not _broadcasts(shape, x.shape):
        raise ValueError(f"sum_to: shape {shape} does not broadcast to x {x.shape}")
    front = x.ndim - len(shape)
    repeated = tuple(i for i in range(x.ndim) if i < front or shape[i - front] == 1 != x.shape[i])
    return reshape(sum(x, repeated), shape)


def pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """x padded with `value`, or x itself if all widths are 0.

    widths: one pair (before, after) for each axis, none negative (ValueError).
    """
    x = one("pad", x)
    pairs = tuple(tuple(pair) if isinstance(pair, (tuple, list)) else (pair,) for pair in widths)
    if len(pairs) != x.ndim or builtins.any(len(pair) != 2 or builtins.min(pair) < 0 for pair in pairs):
        raise ValueError(
            f"pad: widths {pairs} for x {x.shape}; one pair (before, after) of numbers >= 0 for each axis is needed"
        )
    if not builtins.any(map(builtins.any, pairs)):
        return x
    return _Pad.apply(x, widths=pairs, value=value)


# ------------------------------------------------------------------------------------ indexing
class _GetItem(Function):
    def forward(self, x, *, index):
        self.shape, self.index = x.shape, index
        y = x[index]
        in_order = builtins.all(
            part is Ellipsis or (isinstance(part, slice) and part.step in (None, 1)) for part in index
        )
        self.takes_all = in_order and y.shape == x.shape
        return y

    def backward(self, gy):
        if self.takes_all:  # for example x[:, :height, :width] of an image that needed no padding
            return gy
        return _PutItem.apply(gy, shape=self.shape, index=self.index)


class _PutItem(Function):
    """The transpose of indexing: zeros with x added at `index`."""

    def forward(self, x, *, shape, index):
        self.index = index
        xp = array_module(x)
        out = xp.zeros(shape, x.dtype)
        if builtins.any(is_array(part) and part.dtype.kind != "b" for part in index):
            xp.add.at(out, index, x)  # an index array may name an element twice; `=` would keep only one gradient
        else:
            out[index] = x
        return out

    def backward(self, gy):
        return getitem(gy, self.index)


def _array_index(part: Any, device: str) -> Any:
    """One part of an index. Tensors, arrays and sequences become new arrays, because backward needs them unchanged."""
    if is_array(part):
        return to_device(plain_array("getitem: index", data_of(part)).copy(), device)
    if hasattr(part, "__len__") and not isinstance(part, (str, dict, set)):  # a list, tuple, range, memoryview ...
        return to_device(np.array(part, dtype=None if len(part) else np.intp), device)
    return part


def _array_indices(x: Any, index: Any) -> tuple:
    parts = index if isinstance(index, tuple) else (index,)  # x[i] is x[(i,)]
    return tuple(_array_index(part, device_of(data_of(x))) for part in parts)


def getitem(x: Any, index: Any) -> Any:
    """x[index] for every index that NumPy knows: integers, slices, ..., None, integer arrays, boolean masks.

    An element named several times gets the sum of its gradients. Raises IndexError.
    """
    x = one("getitem", x)
    try:
        return _GetItem.apply(x, index=_array_indices(x, index))
    except IndexError as error:
        raise IndexError(f"getitem: x {x.shape}: {error}") from None


def scatter_add(x: Any, index: Any, values: Any) -> Any:
    """A copy of x with values added at x[index]. An element that is named several times gets all its values.

    index: as in x[index]: integers, slices, integer arrays, boolean masks. values: they broadcast to the shape of
    x[index]; numbers and integers take the dtype of x. Gradients flow to x and to values.
    Raises IndexError, TypeError or ValueError.
    """
    x, checked = one("scatter_add", x), one("scatter_add", values, "values")
    is_weak = not is_array(values) or (x.dtype.kind == "f" and checked.dtype.kind != "f")
    values = astype(checked, x.dtype) if is_weak else checked
    if values.dtype != x.dtype:
        raise TypeError(f"scatter_add: values are {values.dtype}, x is {x.dtype}; convert one with .astype")
    parts = _array_indices(x, index)
    try:
        shape = data_of(x)[parts].shape
    except IndexError as error:
        raise IndexError(f"scatter_add: x {x.shape}: {error}") from None
    if not _broadcasts(values.shape, shape):
        raise ValueError(f"scatter_add: values {values.shape} do not broadcast to x[index] {shape} of x {x.shape}")
    return x + _PutItem.apply(broadcast_to(values, shape), shape=x.shape, index=parts)


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, in place. Allowed if the tensor needs no gradient, or inside `with no_grad():`."""
    if isinstance(value, Tensor) and value.requires_grad and is_grad_enabled():
        raise RuntimeError("x[...] = value: value requires a gradient, which would be lost; use where or concat")
    value = data_of(value)
    if is_array(value):
        value = plain_array("x[...] = value: value", value)
    self.changed_in_place()
    parts = index if isinstance(index, tuple) else (index,)
    self.data[tuple(data_of(part) for part in parts)] = value
