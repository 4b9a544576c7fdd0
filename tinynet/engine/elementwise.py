"""Elementwise operations: arithmetic, functions of one array, comparisons, logic, where.

An operation with a derivative is one row: its value, and for each argument the gradient. Read `_Mul` first:

    _Mul = elementwise("_Mul", lambda x, y: x * y, x=lambda gz, y: gz * y, y=lambda gz, x: gz * x)

z = x * y. If gz is the gradient of the output z, the gradient of x is gz * y and the gradient of y is gz * x. A public
function below checks the arguments and calls `_Mul.apply`.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..backends.arrays import array_module
from ..backends.devices import common_device
from .arguments import (
    check_booleans,
    check_broadcast,
    data_of,
    is_array,
    is_scalar,
    no_history,
    one,
    one_float,
    two,
    two_float,
)
from .shapes import sum_to
from .tensor import Function


# ------------------------------------------------------------------------------------ how a row becomes a Function
class Elementwise(Function):
    """z = value(x, y, ...), elementwise with broadcasting. `elementwise` makes a subclass of each row.

    gradients: one function for each argument of `value`, or None. reads: for each of them, the positions of what it
    reads in (x, y, ..., z).
    """

    value: Callable
    gradients: tuple[Callable | None, ...]
    reads: tuple[tuple[int, ...], ...]

    def forward(self, *arrays: Any) -> Any:
        z = self.value(*arrays)
        if any(self.needs_grad):
            self.shapes = [getattr(a, "shape", ()) for a in arrays]  # (): a number
            # Save only what a wanted gradient reads: `x * 0.5` keeps nothing of x in memory.
            self.kept = {i for reads, needed in zip(self.reads, self.needs_grad) if needed for i in reads}
            self.save(*((*arrays, z)[i] for i in self.kept))
        return z

    def backward(self, gz: Any) -> tuple:
        saved = dict(zip(self.kept, self.saved))
        return tuple(
            # An element that was broadcast gets the sum over its copies.
            sum_to(gradient(gz, *(saved[i] for i in reads)), shape) if gradient and needed else None
            for gradient, reads, shape, needed in zip(self.gradients, self.reads, self.shapes, self.needs_grad)
        )


def elementwise(class_name: str, value: Callable, /, **gradients: Callable) -> type[Elementwise]:
    """A Function for z = value(x, y, ...).

    gradients: for each argument that has one, a function that returns its gradient. Its first parameter is gz, the
        gradient of z. The names of its other parameters say what it reads: arguments of `value`, or the output `z`.
    """
    arguments = list(inspect.signature(value).parameters)
    reads = {argument: list(inspect.signature(g).parameters)[1:] for argument, g in gradients.items()}
    attributes = {
        "value": staticmethod(value),
        "gradients": tuple(gradients.get(argument) for argument in arguments),
        "reads": tuple(tuple([*arguments, "z"].index(n) for n in reads.get(a, ())) for a in arguments),
    }
    return type(class_name, (Elementwise,), attributes)


def _module_of(x: Any, y: Any) -> ModuleType:
    """NumPy or CuPy for two operands, of which one may be a Python number."""
    return array_module(x if is_array(x) else y)


# ------------------------------------------------------------------------------------ arithmetic
_Add = elementwise("_Add", lambda x, y: x + y, x=lambda gz: gz, y=lambda gz: gz)
_Sub = elementwise("_Sub", lambda x, y: x - y, x=lambda gz: gz, y=lambda gz: -gz)
_Mul = elementwise("_Mul", lambda x, y: x * y, x=lambda gz, y: gz * y, y=lambda gz, x: gz * x)
_Div = elementwise("_Div", lambda x, y: x / y, x=lambda gz, y: gz / y, y=lambda gz, x, y: -gz * x / (y * y))
_Neg = elementwise("_Neg", lambda x: -x, x=lambda gz: -gz)
_PowScalar = elementwise(
    "_PowScalar",  # x to the power of a number p
    lambda x, p: x**p,
    # For p = 0 the formula would be 0 * x^-1, which is nan at 0.
    x=lambda gz, x, p: gz * 0 if p == 0 else gz * (p * x ** (p - 1)),
)
_Pow = elementwise(
    "_Pow",  # x to the power of an array: d/dx = y x^(y-1), d/dy = x^y log x
    lambda x, y: x**y,
    # At 0^0 the factor y is 0, but x^(y-1) is infinite: any finite power gives the derivative 0.
    x=lambda gz, x, y: gz * y * x ** where((x == 0) & (y == 0), 1.0, y - 1),
    # 0^y log 0 is 0 for y > 0 (its limit), not 0 * -infinity.
    y=lambda gz, x, y: gz * x**y * log(where(x == 0, 1.0, x)),
)
_Maximum = elementwise(
    "_Maximum",
    lambda x, y: _module_of(x, y).maximum(x, y),
    x=lambda gz, x, y: where(x >= y, gz, 0.0),
    y=lambda gz, x, y: where(x >= y, 0.0, gz),
)
_Minimum = elementwise(
    "_Minimum",
    lambda x, y: _module_of(x, y).minimum(x, y),
    x=lambda gz, x, y: where(x <= y, gz, 0.0),
    y=lambda gz, x, y: where(x <= y, 0.0, gz),
)


def add(x: Any, y: Any) -> Any:
    """x + y, broadcast."""
    return _Add.apply(*two("add", x, y))


def sub(x: Any, y: Any) -> Any:
    """x - y, broadcast."""
    return _Sub.apply(*two("sub", x, y))


def mul(x: Any, y: Any) -> Any:
    """x * y, elementwise and broadcast."""
    return _Mul.apply(*two("mul", x, y))


def div(x: Any, y: Any) -> Any:
    """x / y, broadcast. Two integer operands give float32."""
    return _Div.apply(*two_float("div", x, y))


def neg(x: Any) -> Any:
    """-x."""
    return _Neg.apply(one("neg", x))


def pow(x: Any, exponent: Any) -> Any:
    """x to the power of `exponent`, a number or an array that broadcasts against x.

    The gradient with respect to an array exponent needs log(x): it is nan where x < 0, and 0 where x = 0.
    """
    x, exponent = two("pow", x, exponent, ("x", "exponent"))
    if not is_array(exponent):
        return _PowScalar.apply(x, exponent)
    if not is_array(x):
        x = array_module(data_of(exponent)).asarray(x, dtype=exponent.dtype)
    return _Pow.apply(x, exponent)


def maximum(x: Any, y: Any) -> Any:
    """The larger of x and y, elementwise and broadcast. Where they are equal, x gets the gradient."""
    return _Maximum.apply(*two("maximum", x, y))


def minimum(x: Any, y: Any) -> Any:
    """The smaller of x and y, elementwise and broadcast. Where they are equal, x gets the gradient."""
    return _Minimum.apply(*two("minimum", x, y))


# ------------------------------------------------------------------------------------ functions of one array
_Exp = elementwise("_Exp", lambda x: array_module(x).exp(x), x=lambda gz, z: gz * z)
_Log = elementwise("_Log", lambda x: array_module(x).log(x), x=lambda gz, x: gz / x)
_Sqrt = elementwise("_Sqrt", lambda x: array_module(x).sqrt(x), x=lambda gz, z: gz / (2 * z))
_Abs = elementwise("_Abs", lambda x: array_module(x).abs(x), x=lambda gz, x: gz * sign(x))
_Clip = elementwise(
    "_Clip",
    lambda x, low, high: array_module(x).clip(x, low, high),
    x=lambda gz, x, low, high: where(_lies_within(x, low, high), gz, 0.0),
)


def _lies_within(x: Any, low: float | None, high: float | None) -> Any:
    """low <= x <= high; None leaves that side open."""
    return (x >= (-math.inf if low is None else low)) & (x <= (math.inf if high is None else high))


def exp(x: Any) -> Any:
    """e to the power of x."""
    return _Exp.apply(one_float("exp", x))


def log(x: Any) -> Any:
    """The natural logarithm; -inf at 0 and nan below, with NumPy's warning."""
    return _Log.apply(one_float("log", x))


def sqrt(x: Any) -> Any:
    """The square root; its derivative at 0 is infinite."""
    return _Sqrt.apply(one_float("sqrt", x))


def abs(x: Any) -> Any:
    """The absolute value; its derivative at 0 is taken as 0."""
    return _Abs.apply(one("abs", x))


def sign(x: Any) -> Any:
    """-1, 0 or 1. Without history: the derivative is 0 wherever it exists."""
    x = one("sign", x)
    return no_history(array_module(data_of(x)).sign, x)


def clip(x: Any, low: float | None = None, high: float | None = None) -> Any:
    """x limited to [low, high]. Both are numbers; None leaves that side open.

    The gradient passes where low <= x <= high. Raises ValueError if both are None or low > high.
    """
    x = one("clip", x)
    if low is None and high is None:
        raise ValueError("clip: low and high are both None; at least one limit is needed")
    for name, limit in (("low", low), ("high", high)):
        if not (limit is None or is_scalar(limit)):
            raise TypeError(f"clip: {name} must be a number, not {type(limit).__name__}; arrays: maximum, minimum")
    low, high = (v.item() if isinstance(v, np.generic) else v for v in (low, high))
    if low is not None and high is not None and low > high:
        raise ValueError(f"clip: low {low} is above high {high}")
    return _Clip.apply(x, low, high)


# ------------------------------------------------------------------------------------ comparisons and logic
def _comparison(name: str, symbol: str, compare: Callable) -> Callable[[Any, Any], Any]:
    """The function for `x symbol y`."""

    def function(x: Any, y: Any) -> Any:
        return no_history(compare, *two(name, x, y))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"x {symbol} y, elementwise: booleans, without history."
    return function


equal = _comparison("equal", "==", operator.eq)
not_equal = _comparison("not_equal", "!=", operator.ne)
less = _comparison("less", "<", operator.lt)
less_equal = _comparison("less_equal", "<=", operator.le)
greater = _comparison("greater", ">", operator.gt)
greater_equal = _comparison("greater_equal", ">=", operator.ge)


def logical_not(x: Any) -> Any:
    """not x, elementwise, for a boolean array. Also `~x`."""
    return no_history(operator.invert, *check_booleans("logical_not", x=one("logical_not", x)))


def logical_and(x: Any, y: Any) -> Any:
    """x and y, elementwise, for boolean arrays. Also `x & y`."""
    x, y = two("logical_and", x, y)
    return no_history(operator.and_, *check_booleans("logical_and", x=x, y=y))


def logical_or(x: Any, y: Any) -> Any:
    """x or y, elementwise, for boolean arrays. Also `x | y`."""
    x, y = two("logical_or", x, y)
    return no_history(operator.or_, *check_booleans("logical_or", x=x, y=y))


_Where = elementwise(
    "_Where",
    lambda condition, x, y: array_module(condition).where(condition, x, y),
    x=lambda gz, condition: where(condition, gz, 0.0),
    y=lambda gz, condition: where(condition, 0.0, gz),
)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where `condition` (booleans) is True, y elsewhere; all three broadcast together.

    An element that is not chosen gets the gradient 0, even if the upstream gradient there is inf or nan.
    """
    check_booleans("where", condition=condition)
    if not hasattr(condition, "dtype"):
        condition = np.asarray(condition)
    x, y = two("where", x, y)
    for name, a in (("x", x), ("y", y)):
        check_broadcast("where", condition.shape, np.shape(data_of(a)), ("condition", name))
        if is_array(a):
            common_device("where", {"condition": data_of(condition), name: data_of(a)})
    return _Where.apply(condition, x, y)
