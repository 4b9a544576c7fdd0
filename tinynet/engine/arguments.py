"""The arguments of the basic operations: how they are checked, and how they are converted to a common dtype.

The public functions of `elementwise.py`, `shapes.py` and `reductions.py` call `one` or `two` first. The rules are those
at the top of `basic_ops.py`.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends.arrays import device_of
from ..backends.devices import common_device, to_device
from .tensor import Function, Tensor

Axis = int | tuple[int, ...] | None


def is_array(x: Any) -> bool:
    """True for a Tensor or an array. NumPy's scalars have a dtype, too, but they are not arrays."""
    return hasattr(x, "dtype") and not isinstance(x, np.generic)


def is_scalar(x: Any) -> bool:
    """True for a Python number or a NumPy scalar."""
    return isinstance(x, (bool, int, float, np.generic))


def data_of(x: Any) -> Any:
    """The array inside a Tensor; any other argument is returned unchanged."""
    return x._data if isinstance(x, Tensor) else x


def one(op: str, x: Any, name: str = "x") -> Any:
    """The checked argument of an operation on one array; a Python number becomes an array. Raises TypeError."""
    check_real(op, x, name)
    return x if hasattr(x, "dtype") else np.asarray(x, np.float32 if isinstance(x, float) else None)


def check_real(op: str, x: Any, name: str) -> None:
    """Raise TypeError unless x is a Tensor, an array or a number, of a real or boolean dtype.

    NumPy would silently drop the imaginary part of complex numbers.
    """
    dtype = getattr(x, "dtype", None)
    if dtype is None and not is_scalar(x):
        raise TypeError(f"{op}: {name} is a {type(x).__name__}; a Tensor, an array or a number is needed")
    if dtype is not None and dtype.kind not in "biuf":
        raise TypeError(f"{op}: {name} has dtype {dtype}; real numbers or booleans are needed")


def one_float(op: str, x: Any) -> Any:
    """The checked argument of an operation that needs a float: integers and booleans become float32."""
    x = one(op, x)
    return x if x.dtype.kind == "f" else astype(x, np.float32)


def two(op: str, x: Any, y: Any, names: tuple[str, str] = ("x", "y")) -> tuple[Any, Any]:
    """The two checked operands of an operation. Scalars and integers are converted to the dtype of the other operand.

    Raises TypeError if an operand is not a number or if both have different floating dtypes, and ValueError if the
    shapes do not broadcast.
    """
    for name, a in zip(names, (x, y)):
        check_real(op, a, name)
    # NumPy would let a NumPy scalar decide the dtype: np.float64(2) * float32 array is float64.
    if is_array(x) and isinstance(y, np.generic):
        y = y.item()
    elif is_array(y) and isinstance(x, np.generic):
        x = x.item()

    x_dtype: Any = getattr(x, "dtype", None)
    y_dtype: Any = getattr(y, "dtype", None)
    if x_dtype is None and y_dtype is None:
        dtype = np.float32 if isinstance(x, float) or isinstance(y, float) else None
        return np.asarray(x, dtype), np.asarray(y, dtype)
    if x_dtype is None or y_dtype is None:  # a Python float beside integers needs floats; np.float64 is a float, too
        if x_dtype is None and isinstance(x, float) and y_dtype.kind != "f":
            y = astype(y, np.float32)
        if y_dtype is None and isinstance(y, float) and x_dtype.kind != "f":
            x = astype(x, np.float32)
        return x, y
    if type(data_of(x)) is not type(data_of(y)):
        common_device(op, {names[0]: data_of(x), names[1]: data_of(y)})
    if x_dtype != y_dtype:
        x_is_float, y_is_float = x_dtype.kind == "f", y_dtype.kind == "f"
        if x_is_float and y_is_float:
            raise TypeError(f"{op}: {names[0]} is {x_dtype}, {names[1]} is {y_dtype}; convert one with .astype")
        if x_is_float:
            y = astype(y, x_dtype)
        elif y_is_float:
            x = astype(x, y_dtype)
    if x.shape != y.shape:
        check_broadcast(op, x.shape, y.shape, names)
    return x, y


def two_float(op: str, x: Any, y: Any) -> tuple[Any, Any]:
    """The two checked operands of an operation that needs floats: if neither is a float, both become float32."""
    x, y = two(op, x, y)
    if builtins.any(hasattr(a, "dtype") and a.dtype.kind == "f" for a in (x, y)):
        return x, y
    return tuple(astype(a, np.float32) if hasattr(a, "dtype") else a for a in (x, y))


def check_broadcast(op: str, x_shape: tuple, y_shape: tuple, names: tuple[str, str]) -> None:
    """Raise ValueError unless the two shapes broadcast."""
    for back, (n, m) in enumerate(zip(reversed(x_shape), reversed(y_shape)), start=1):
        if n != m and n != 1 and m != 1:
            raise ValueError(
                f"{op}: {names[0]} {x_shape} and {names[1]} {y_shape} do not broadcast: axis -{back} has {n} and "
                f"{m} elements; equal numbers, or one of them 1, are needed"
            )


def check_booleans(op: str, **arrays: Any) -> tuple:
    """The arguments, all boolean. Raises TypeError."""
    for name, a in arrays.items():
        dtype = getattr(a, "dtype", np.dtype(type(a)))
        if dtype.kind != "b":
            raise TypeError(f"{op}: {name} has dtype {dtype}; booleans are needed: compare first, e.g. x != 0")
    return tuple(arrays.values())


def sorted_axes(op: str, x: Any, axis: Axis) -> tuple[int, ...]:
    """`axis` as a sorted tuple of axes counted from the front; None means all. Raises ValueError."""
    if axis is None:
        return tuple(range(x.ndim))
    axes = []
    for a in axis if isinstance(axis, (tuple, list)) else (axis,):
        if not -x.ndim <= a < x.ndim:
            raise ValueError(f"{op}: axis {a} does not exist, x {x.shape} has {x.ndim} axes")
        axes.append(int(a) % x.ndim)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{op}: axis {axis} names an axis of x {x.shape} twice")
    return tuple(sorted(axes))


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with each reduced axis kept as an axis of length 1, so that it broadcasts against the original."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def axes_and_count(op: str, x: Any, axis: Axis) -> tuple[tuple[int, ...], int]:
    """The sorted axes of a reduction, and how many elements each result is computed from: ValueError if 0."""
    axes = sorted_axes(op, x, axis)
    n = math.prod(x.shape[a] for a in axes)
    if n == 0:
        raise ValueError(f"{op}: x {x.shape} has no elements along axis {axes}; at least one is needed")
    return axes, n


def no_history(function: Callable, *args: Any, **parameters: Any) -> Any:
    """The result of an array function that has no useful derivative: a Tensor without history if an argument is one."""
    result = function(*(data_of(a) for a in args), **parameters)
    return Tensor(result) if builtins.any(isinstance(a, Tensor) for a in args) else result


# ------------------------------------------------------------------------------------ conversions
class _ToDevice(Function):
    def forward(self, x, *, device):
        self.device = device_of(x)
        return to_device(x, device)

    def backward(self, gy):
        return to(gy, self.device)


class _AsType(Function):
    def forward(self, x, *, dtype):
        self.dtype = x.dtype
        return x.astype(dtype)

    def backward(self, gy):
        return astype(gy, self.dtype)


def astype(x: Any, dtype: Any) -> Any:
    """x converted to `dtype`, or x itself if it has that dtype. The gradient is converted back.

    A tensor converted to integers or booleans has no history.
    """
    x = one("astype", x)
    return x if x.dtype == dtype else _AsType.apply(x, dtype=np.dtype(dtype))


def to(x: Any, device: str) -> Any:
    """x on `device`, 'cpu' or 'cuda', or x itself if it is there already. The gradient moves back.

    Raises ValueError for an unknown device, RuntimeError if a GPU is asked for and CuPy is missing.
    """
    return x if device == device_of(data_of(x)) else _ToDevice.apply(x, device=device)
