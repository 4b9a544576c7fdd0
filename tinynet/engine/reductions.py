"""Reductions and softmax: mean, var, max, min, argmax, argmin, any, all, softmax, log_softmax, logsumexp."""

from __future__ import annotations

import math
from typing import Any

from ..backends.arrays import array_module
from .arguments import Axis, axes_and_count, check_booleans, kept_shape, no_history, one, one_float, sorted_axes
from .elementwise import exp, where
from .shapes import expand_dims, reshape, squeeze, sum, transpose
from .tensor import Function, Tensor


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The mean over `axis`. Raises ValueError if there are no elements."""
    x = one("mean", x)
    _, n = axes_and_count("mean", x, axis)
    return sum(x, axis, keepdims) / n


def var(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """The variance over `axis`: the sum of the squared distances from the mean, divided by n - ddof.

    ddof = 0 gives the variance of the elements. ddof = 1 estimates the variance of their distribution.
    Raises ValueError if n - ddof is not positive.
    """
    x = one_float("var", x)
    _, n = axes_and_count("var", x, axis)
    if n <= ddof:
        raise ValueError(f"var: n - ddof = {n} - {ddof} must be positive; x is {x.shape}, axis {axis}")
    distance = x - mean(x, axis, keepdims=True)
    return sum(distance * distance, axis, keepdims) / (n - ddof)


class _Extreme(Function):
    """The largest or the smallest element of the last axis. `argument`: "argmax" or "argmin"."""

    def forward(self, x, *, argument):
        # The index of the chosen element is piecewise constant, so every derivative treats it as a constant.
        self.chosen = getattr(x, argument)(axis=-1)[..., None]
        self.length = x.shape[-1]
        return array_module(x).take_along_axis(x, self.chosen, axis=-1)[..., 0]

    def backward(self, gy):
        is_chosen = array_module(self.chosen).arange(self.length) == self.chosen
        return where(is_chosen, expand_dims(gy, -1), 0.0)


def _extreme(op: str, x: Any, axis: Axis, keepdims: bool) -> Any:
    """The largest (op = "max") or smallest ("min") element over `axis`."""
    x = one(op, x)
    axes, _ = axes_and_count(op, x, axis)
    y = _Extreme.apply(as_rows(x, axes), argument="arg" + op)
    y = reshape(y, kept_shape(x.shape, axes)) if keepdims else y
    if type(y) is Tensor:
        y.__class__ = _Extremes
    return y


class _Extremes(Tensor):
    """The result of `max` or `min`. In PyTorch it is a pair; code written for that must not unpack rows of it."""

    __slots__ = ()

    def __iter__(self) -> Any:
        raise TypeError(
            "values, indices = x.max(axis): max and min return the values only. Write values, indices = x.max(axis), "
            "x.argmax(axis). To loop over the values: x.max(axis).numpy()"
        )


def as_rows(x: Any, axes: tuple[int, ...]) -> Any:
    """x with `axes` moved last, in their order, and joined to one axis: argmax then finds the first in row-major order.

    axes: sorted and counted from the front.
    """
    others = tuple(a for a in range(x.ndim) if a not in axes)
    n = math.prod(x.shape[a] for a in axes)
    return reshape(transpose(x, others + axes), (*(x.shape[a] for a in others), n))


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over `axis`; nan if one of them is nan. Raises ValueError if there are no elements.

    Of several equal elements, the first in row-major order gets the gradient.
    """
    return _extreme("max", x, axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest element over `axis`; ties, nan and errors as in `max`."""
    return _extreme("min", x, axis, keepdims)


def argmax(x: Any, axis: Axis = None) -> Any:
    """The index of the (first) largest element along `axis`; of several axes, or of all, in the flattened part.

    Without history.
    """
    return _index_of("argmax", x, axis)


def argmin(x: Any, axis: Axis = None) -> Any:
    """The index of the (first) smallest element; see `argmax`."""
    return _index_of("argmin", x, axis)


def _index_of(op: str, x: Any, axis: Axis) -> Any:
    x = one(op, x)
    axes, _ = axes_and_count(op, x, axis)
    return no_history(lambda a: getattr(as_rows(a, axes), op)(axis=-1), x)


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """True if any element along `axis` is True, for a boolean array."""
    (x,) = check_booleans("any", x=one("any", x))
    return no_history(lambda a: a.any(axis=sorted_axes("any", a, axis), keepdims=keepdims), x)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """True if all elements along `axis` are True, for a boolean array."""
    (x,) = check_booleans("all", x=one("all", x))
    return no_history(lambda a: a.all(axis=sorted_axes("all", a, axis), keepdims=keepdims), x)


# ------------------------------------------------------------------------------------ softmax and relatives
class _Softmax(Function):
    """y_i = exp(x_i) / sum_j exp(x_j), with dy_i/dx_j = y_i (delta_ij - y_j)."""

    def forward(self, x, *, axis):
        self.axis = axis
        xp = array_module(x)
        y = xp.exp(x - x.max(axis=axis, keepdims=True))  # the largest becomes 0: exp cannot overflow
        y /= y.sum(axis=axis, keepdims=True)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return y * (gy - sum(gy * y, self.axis, keepdims=True))


class _LogSoftmax(Function):
    """y_i = x_i - log sum_j exp(x_j), with dy_i/dx_j = delta_ij - exp(y_j)."""

    def forward(self, x, *, axis):
        self.axis = axis
        xp = array_module(x)
        y = x - x.max(axis=axis, keepdims=True)
        y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy - exp(y) * sum(gy, self.axis, keepdims=True)


class _LogSumExp(Function):
    """y = log sum_j exp(x_j), with dy/dx_j = exp(x_j - y)."""

    def forward(self, x, *, axes):
        xp = array_module(x)
        largest = x.max(axis=axes, keepdims=True)
        largest = xp.where(xp.isfinite(largest), largest, 0)  # inf - inf would be nan
        y = xp.log(xp.exp(x - largest).sum(axis=axes, keepdims=True)) + largest
        self.save(x, y)
        return y

    def backward(self, gy):
        x, y = self.saved
        return gy * exp(x - where(y > -math.inf, y, 0.0))  # of elements that are all -inf, 0: -inf - -inf would be nan


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) scaled to sum 1 along `axis`; does not overflow. Raises ValueError for an empty axis."""
    x = one_float("softmax", x)
    axes, _ = axes_and_count("softmax", x, axis)
    return _Softmax.apply(x, axis=axes)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)) along `axis`; finite even if the softmax itself would round to 0."""
    x = one_float("log_softmax", x)
    axes, _ = axes_and_count("log_softmax", x, axis)
    return _LogSoftmax.apply(x, axis=axes)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over `axis`, without overflow; -inf if all elements are -inf."""
    x = one_float("logsumexp", x)
    axes, _ = axes_and_count("logsumexp", x, axis)
    y = _LogSumExp.apply(x, axes=axes)
    return y if keepdims else squeeze(y, axes)
