"""The basic operations: arithmetic, reductions, shapes, indexing, softmax. Nothing here is a hand-written kernel.

Each operation is a small `Function` and a public function that checks its arguments. It is written once, on the
array module (NumPy, or CuPy for arrays on a GPU). Public functions take Tensors, arrays and Python scalars; with
no Tensor among the arguments they return a plain array. That is why one `backward`, written with operators and
the functions of this file, serves both an ordinary backward pass (arrays) and `create_graph=True` (Tensors).

Rules that hold for every operation:

dtype       is preserved. Two different floating dtypes are an error, never a silent upcast. Scalars are weak: Python
            numbers and NumPy scalars take the dtype of the array beside them. Integer and boolean arrays take the
            dtype of a floating array beside them; where a float is needed and none is there (division, exp, mean)
            they become float32, the dtype of work.
broadcast   as in NumPy. The gradient of a broadcast operand is summed back to its shape (`sum_to`): an element
            used n times gets the sum of n gradients.
errors      TypeError for dtypes, ValueError for shapes, IndexError for indices, each naming operation and argument.

`sum`, `max`, `min`, `abs`, `pow`, `any`, `all` carry the names of Python's builtins, as NumPy's do; where this file
means the builtin it says `builtins.max`.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backends.arrays import array_module, device_of
from ..backends.devices import common_device, to_device
from .tensor import Function, Tensor, is_grad_enabled

Axis = int | tuple[int, ...] | None


# ------------------------------------------------------------------------------------ arguments and their errors
def _is_array(x: Any) -> bool:
    """A Tensor or an array, as opposed to a scalar (NumPy's scalars have a dtype too, but are no arrays)."""
    return hasattr(x, "dtype") and not isinstance(x, np.generic)


def _is_scalar(x: Any) -> bool:
    return isinstance(x, (bool, int, float, np.generic))


def _data(x: Any) -> Any:
    """The array inside a Tensor; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def _one(op: str, x: Any, name: str = "x") -> Any:
    """Check the argument of an operation on one array. Raises TypeError."""
    if not (hasattr(x, "dtype") or _is_scalar(x)):
        raise TypeError(f"{op}: {name} is a {type(x).__name__}; a Tensor, an array or a number is needed")
    if not hasattr(x, "dtype"):
        return np.asarray(x, np.float32 if isinstance(x, float) else None)
    _check_real(op, x, name)
    return x


def _check_real(op: str, x: Any, name: str) -> None:
    """Refuse complex numbers, of which NumPy would drop the imaginary part, and text, dates and objects."""
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{op}: {name} has dtype {x.dtype}; real numbers or booleans are needed")


def _one_float(op: str, x: Any) -> Any:
    """As `_one`, for operations that need a float: integers and booleans become float32."""
    x = _one(op, x)
    return x if x.dtype.kind == "f" else astype(x, np.float32)


def _two(op: str, x: Any, y: Any, names: tuple[str, str] = ("x", "y")) -> tuple[Any, Any]:
    """Check two operands: bring scalars and integers to the other's dtype; both must broadcast together.

    Raises TypeError for two different floating dtypes (or what is no number), ValueError for the shapes.
    """
    for name, a in zip(names, (x, y)):
        if not (hasattr(a, "dtype") or _is_scalar(a)):
            raise TypeError(f"{op}: {name} is a {type(a).__name__}; a Tensor, an array or a number is needed")
        if hasattr(a, "dtype"):
            _check_real(op, a, name)
    # NumPy would let a NumPy scalar decide the dtype: np.float64(2) * float32 array is float64.
    if _is_array(x) and isinstance(y, np.generic):
        y = y.item()
    elif _is_array(y) and isinstance(x, np.generic):
        x = x.item()

    x_dtype: Any = getattr(x, "dtype", None)
    y_dtype: Any = getattr(y, "dtype", None)
    if x_dtype is None and y_dtype is None:
        dtype = np.float32 if isinstance(x, float) or isinstance(y, float) else None
        return np.asarray(x, dtype), np.asarray(y, dtype)
    if x_dtype is None or y_dtype is None:  # a Python float beside an integer array needs a float array
        if isinstance(x, float) and y_dtype.kind != "f":
            y = astype(y, np.float32)
        if isinstance(y, float) and x_dtype.kind != "f":
            x = astype(x, np.float32)
        return x, y
    if type(_data(x)) is not type(_data(y)):
        common_device(op, {names[0]: _data(x), names[1]: _data(y)})
    if x_dtype != y_dtype:
        x_is_float, y_is_float = x_dtype.kind == "f", y_dtype.kind == "f"
        if x_is_float and y_is_float:
            raise TypeError(f"{op}: {names[0]} is {x_dtype}, {names[1]} is {y_dtype}; convert one with .astype")
        if x_is_float:
            y = astype(y, x_dtype)
        elif y_is_float:
            x = astype(x, y_dtype)
    if x.shape != y.shape:
        _check_broadcast(op, x.shape, y.shape, names)
    return x, y


def _two_float(op: str, x: Any, y: Any) -> tuple[Any, Any]:
    """As `_two`, for operations that need floats: where neither operand is one, both become float32."""
    x, y = _two(op, x, y)
    if builtins.any(hasattr(a, "dtype") and a.dtype.kind == "f" for a in (x, y)):
        return x, y
    return tuple(astype(a, np.float32) if hasattr(a, "dtype") else a for a in (x, y))


def _check_broadcast(op: str, x_shape: tuple, y_shape: tuple, names: tuple[str, str]) -> None:
    for back, (n, m) in enumerate(zip(reversed(x_shape), reversed(y_shape)), start=1):
        if n != m and n != 1 and m != 1:
            raise ValueError(
                f"{op}: {names[0]} {x_shape} and {names[1]} {y_shape} do not broadcast: axis -{back} has {n} and "
                f"{m} elements; equal numbers, or one of them 1, are needed"
            )


def _axes(op: str, x: Any, axis: Axis) -> tuple[int, ...]:
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


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with the reduced axes kept as axes of length 1: what broadcasts against the original."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _count(op: str, x: Any, axes: tuple[int, ...]) -> int:
    """How many elements each result is computed from. Raises ValueError if that is none."""
    n = math.prod(x.shape[a] for a in axes)
    if n == 0:
        raise ValueError(f"{op}: x {x.shape} has no elements along axis {axes}; at least one is needed")
    return n


def _no_history(function: Callable, *args: Any, **parameters: Any) -> Any:
    """Run an array function whose result has no useful derivative; Tensors in give a Tensor without history."""
    result = function(*(_data(a) for a in args), **parameters)
    return Tensor(result) if builtins.any(isinstance(a, Tensor) for a in args) else result


# ------------------------------------------------------------------------------------ arithmetic
class _Binary(Function):
    """z = f(x, y), elementwise with broadcasting. A subclass gives `compute` and one line for each gradient."""

    def forward(self, x: Any, y: Any) -> Any:
        self.shapes = np.shape(x), np.shape(y)
        return self.compute(x, y)

    def compute(self, x: Any, y: Any) -> Any:
        raise NotImplementedError

    def gradient_x(self, gz: Any) -> Any:
        raise NotImplementedError

    def gradient_y(self, gz: Any) -> Any:
        raise NotImplementedError

    def backward(self, gz: Any) -> tuple:
        gradients = (self.gradient_x, self.gradient_y)
        return tuple(
            sum_to(gradient(gz), shape) if needed else None
            for gradient, shape, needed in zip(gradients, self.shapes, self.needs_grad)
        )


class _Add(_Binary):
    def compute(self, x, y):
        return x + y

    def gradient_x(self, gz):
        return gz

    def gradient_y(self, gz):
        return gz


class _Sub(_Binary):
    def compute(self, x, y):
        return x - y

    def gradient_x(self, gz):
        return gz

    def gradient_y(self, gz):
        return -gz


class _Mul(_Binary):
    def compute(self, x, y):
        # Keep x only if y's gradient needs it: in `x * 0.5` nothing has to stay in memory.
        self.save(x if self.needs_grad[1] else None, y if self.needs_grad[0] else None)
        return x * y

    def gradient_x(self, gz):
        return gz * self.saved[1]

    def gradient_y(self, gz):
        return gz * self.saved[0]


class _Div(_Binary):
    def compute(self, x, y):
        self.save(x if self.needs_grad[1] else None, y)
        return x / y

    def gradient_x(self, gz):
        return gz / self.saved[1]

    def gradient_y(self, gz):  # d(x/y)/dy = -x / y^2
        x, y = self.saved
        return -gz * x / (y * y)


class _Neg(Function):
    def forward(self, x):
        return -x

    def backward(self, gy):
        return -gy


class _PowScalar(Function):
    """x to the power of a number."""

    def forward(self, x, *, exponent):
        self.save(x)
        self.exponent = exponent
        return x**exponent

    def backward(self, gy):
        (x,) = self.saved
        p = self.exponent
        if p == 0:  # x^-1 is infinite at 0, and 0 * infinity is not 0
            return gy * 0
        return gy * (p * x ** (p - 1))


class _Pow(_Binary):
    """x to the power of an array: d/dx = y x^(y-1), d/dy = x^y log x."""

    def compute(self, x, y):
        self.save(x, y)
        return x**y

    def gradient_x(self, gz):
        x, y = self.saved
        # At 0^0 the factor y is 0, but x^(y-1) infinite: any finite power gives the derivative 0.
        return gz * y * x ** where((x == 0) & (y == 0), 1.0, y - 1)

    def gradient_y(self, gz):
        x, y = self.saved
        # 0^y log 0 is 0 for y > 0 (its limit), not 0 * -infinity.
        return gz * x**y * log(where(x == 0, 1.0, x))


class _Maximum(_Binary):
    def compute(self, x, y):
        self.save(x, y)
        return array_module(x if _is_array(x) else y).maximum(x, y)

    def x_is_chosen(self):
        x, y = self.saved
        return x >= y

    def gradient_x(self, gz):
        return where(self.x_is_chosen(), gz, 0.0)

    def gradient_y(self, gz):
        return where(self.x_is_chosen(), 0.0, gz)


class _Minimum(_Maximum):
    def compute(self, x, y):
        self.save(x, y)
        return array_module(x if _is_array(x) else y).minimum(x, y)

    def x_is_chosen(self):
        x, y = self.saved
        return x <= y


def add(x: Any, y: Any) -> Any:
    """x + y, broadcast."""
    return _Add.apply(*_two("add", x, y))


def sub(x: Any, y: Any) -> Any:
    """x - y, broadcast."""
    return _Sub.apply(*_two("sub", x, y))


def mul(x: Any, y: Any) -> Any:
    """x * y, elementwise and broadcast."""
    return _Mul.apply(*_two("mul", x, y))


def div(x: Any, y: Any) -> Any:
    """x / y, broadcast. Two integer operands give float32."""
    return _Div.apply(*_two_float("div", x, y))


def neg(x: Any) -> Any:
    """-x."""
    return _Neg.apply(_one("neg", x))


def pow(x: Any, exponent: Any) -> Any:
    """x to the power of `exponent`, a number or an array that broadcasts against x.

    The gradient with respect to an array exponent needs log(x): nan where x < 0, 0 where x = 0.
    """
    x, exponent = _two("pow", x, exponent, ("x", "exponent"))
    if not _is_array(exponent):
        return _PowScalar.apply(x, exponent=exponent)
    if not _is_array(x):
        x = array_module(_data(exponent)).asarray(x, dtype=exponent.dtype)
    return _Pow.apply(x, exponent)


def maximum(x: Any, y: Any) -> Any:
    """The larger of x and y, elementwise and broadcast. Where they are equal, x gets the gradient."""
    return _Maximum.apply(*_two("maximum", x, y))


def minimum(x: Any, y: Any) -> Any:
    """The smaller of x and y, elementwise and broadcast. Where they are equal, x gets the gradient."""
    return _Minimum.apply(*_two("minimum", x, y))


# ------------------------------------------------------------------------------------ functions of one array
class _Exp(Function):
    def forward(self, x):
        y = array_module(x).exp(x)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy * y


class _Log(Function):
    def forward(self, x):
        self.save(x)
        return array_module(x).log(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy / x


class _Sqrt(Function):
    def forward(self, x):
        y = array_module(x).sqrt(x)
        self.save(y)
        return y

    def backward(self, gy):
        (y,) = self.saved
        return gy / (2 * y)


class _Abs(Function):
    def forward(self, x):
        self.save(x)
        return array_module(x).abs(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy * sign(x)


class _Clip(Function):
    def forward(self, x, *, low, high):
        self.save(x)
        self.low, self.high = low, high
        return array_module(x).clip(x, low, high)

    def backward(self, gy):
        (x,) = self.saved
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return where((x >= low) & (x <= high), gy, 0.0)


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


def exp(x: Any) -> Any:
    """e to the power of x."""
    return _Exp.apply(_one_float("exp", x))


def log(x: Any) -> Any:
    """The natural logarithm; -inf at 0 and nan below, with NumPy's warning."""
    return _Log.apply(_one_float("log", x))


def sqrt(x: Any) -> Any:
    """The square root; its derivative at 0 is infinite."""
    return _Sqrt.apply(_one_float("sqrt", x))


def abs(x: Any) -> Any:
    """The absolute value; its derivative at 0 is taken as 0."""
    return _Abs.apply(_one("abs", x))


def sign(x: Any) -> Any:
    """-1, 0 or 1. Without history: the derivative is 0 wherever there is one."""
    x = _one("sign", x)
    return _no_history(array_module(_data(x)).sign, x)


def clip(x: Any, low: float | None = None, high: float | None = None) -> Any:
    """x limited to [low, high], two numbers; None leaves that side open.

    The gradient passes where low <= x <= high. Raises ValueError if both are None or low > high.
    """
    x = _one("clip", x)
    if low is None and high is None:
        raise ValueError("clip: low and high are both None; at least one limit is needed")
    for name, limit in (("low", low), ("high", high)):
        if not (limit is None or _is_scalar(limit)):
            raise TypeError(f"clip: {name} must be a number, not {type(limit).__name__}; arrays: maximum, minimum")
    low, high = (v.item() if isinstance(v, np.generic) else v for v in (low, high))
    if low is not None and high is not None and low > high:
        raise ValueError(f"clip: low {low} is above high {high}")
    return _Clip.apply(x, low=low, high=high)


def astype(x: Any, dtype: Any) -> Any:
    """x converted to `dtype`; x itself where it has that dtype. The gradient is converted back.

    A tensor converted to integers or booleans has no history.
    """
    x = _one("astype", x)
    return x if x.dtype == dtype else _AsType.apply(x, dtype=np.dtype(dtype))


def to(x: Any, device: str) -> Any:
    """x on `device`, 'cpu' or 'cuda'; x itself where it is there already. The gradient moves back.

    Raises ValueError for an unknown device, RuntimeError where a GPU is asked for and CuPy is missing.
    """
    return x if device == device_of(_data(x)) else _ToDevice.apply(x, device=device)


# ------------------------------------------------------------------------------------ comparisons and logic
def equal(x: Any, y: Any) -> Any:
    """x == y, elementwise: booleans, without history."""
    return _no_history(lambda a, b: a == b, *_two("equal", x, y))


def not_equal(x: Any, y: Any) -> Any:
    """x != y, elementwise: booleans, without history."""
    return _no_history(lambda a, b: a != b, *_two("not_equal", x, y))


def less(x: Any, y: Any) -> Any:
    """x < y, elementwise: booleans, without history."""
    return _no_history(lambda a, b: a < b, *_two("less", x, y))


def less_equal(x: Any, y: Any) -> Any:
    """x <= y, elementwise: booleans, without history."""
    return _no_history(lambda a, b: a <= b, *_two("less_equal", x, y))


def greater(x: Any, y: Any) -> Any:
    """x > y, elementwise: booleans, without history."""
    return _no_history(lambda a, b: a > b, *_two("greater", x, y))


def greater_equal(x: Any, y: Any) -> Any:
    """x >= y, elementwise: booleans, without history."""
    return _no_history(lambda a, b: a >= b, *_two("greater_equal", x, y))


def _booleans(op: str, **arrays: Any) -> tuple:
    """The arguments, all boolean. Raises TypeError."""
    for name, a in arrays.items():
        dtype = getattr(a, "dtype", np.dtype(type(a)))
        if dtype.kind != "b":
            raise TypeError(f"{op}: {name} has dtype {dtype}; booleans are needed: compare first, e.g. x != 0")
    return tuple(arrays.values())


def logical_not(x: Any) -> Any:
    """not x, elementwise, for a boolean array. Also `~x`."""
    return _no_history(lambda a: ~a, *_booleans("logical_not", x=_one("logical_not", x)))


def logical_and(x: Any, y: Any) -> Any:
    """x and y, elementwise, for boolean arrays. Also `x & y`."""
    x, y = _two("logical_and", x, y)
    return _no_history(lambda a, b: a & b, *_booleans("logical_and", x=x, y=y))


def logical_or(x: Any, y: Any) -> Any:
    """x or y, elementwise, for boolean arrays. Also `x | y`."""
    x, y = _two("logical_or", x, y)
    return _no_history(lambda a, b: a | b, *_booleans("logical_or", x=x, y=y))


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether any element along `axis` is True, for a boolean array."""
    (x,) = _booleans("any", x=_one("any", x))
    return _no_history(lambda a: a.any(axis=_axes("any", a, axis), keepdims=keepdims), x)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether all elements along `axis` are True, for a boolean array."""
    (x,) = _booleans("all", x=_one("all", x))
    return _no_history(lambda a: a.all(axis=_axes("all", a, axis), keepdims=keepdims), x)


class _Where(Function):
    def forward(self, condition, x, y):
        self.shapes = np.shape(x), np.shape(y)
        self.save(condition)
        return array_module(condition).where(condition, x, y)

    def backward(self, gz):
        (condition,) = self.saved
        _, x_needed, y_needed = self.needs_grad
        gx = sum_to(where(condition, gz, 0.0), self.shapes[0]) if x_needed else None
        gy = sum_to(where(condition, 0.0, gz), self.shapes[1]) if y_needed else None
        return None, gx, gy


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where `condition` (booleans) is True, y elsewhere; all three broadcast together.

    What was not chosen gets the gradient 0, whatever the upstream gradient is there: inf and nan included.
    """
    _booleans("where", condition=condition)
    if not hasattr(condition, "dtype"):
        condition = np.asarray(condition)
    x, y = _two("where", x, y)
    for name, a in (("x", x), ("y", y)):
        _check_broadcast("where", condition.shape, np.shape(_data(a)), ("condition", name))
        if _is_array(a):
            common_device("where", {"condition": _data(condition), name: _data(a)})
    return _Where.apply(condition, x, y)


# ------------------------------------------------------------------------------------ reductions
class _Sum(Function):
    def forward(self, x, *, axes, keepdims):
        self.shape, self.kept_shape = x.shape, _kept(x.shape, axes)
        if x.dtype in (np.float32, np.float16):
            # A million float32 terms added one after the other lose three digits; float64 costs next to nothing.
            return x.sum(axis=axes, keepdims=keepdims, dtype=np.float64).astype(x.dtype)
        return x.sum(axis=axes, keepdims=keepdims)

    def backward(self, gy):
        return broadcast_to(reshape(gy, self.kept_shape), self.shape)


class _Extreme(Function):
    """The largest or the smallest element of the last axis, and which one it was."""

    def forward(self, x, *, argument):
        # Which element was chosen is piecewise constant: to the gradient, and to its gradient, a constant.
        self.chosen = getattr(x, argument)(axis=-1)[..., None]
        self.length = x.shape[-1]
        return array_module(x).take_along_axis(x, self.chosen, axis=-1)[..., 0]

    def backward(self, gy):
        is_chosen = array_module(self.chosen).arange(self.length) == self.chosen
        return where(is_chosen, expand_dims(gy, -1), 0.0)


def _extreme(op: str, x: Any, axis: Axis, keepdims: bool) -> Any:
    x = _one(op, x)
    axes = _axes(op, x, axis)
    n = _count(op, x, axes)
    shape = x.shape
    others = tuple(a for a in range(x.ndim) if a not in axes)
    # The reduced axes go last, in their order, and become one: "first" is then first in row-major order.
    rows = reshape(transpose(x, others + axes), (*(shape[a] for a in others), n))
    y = _Extreme.apply(rows, argument="arg" + op)
    return reshape(y, _kept(shape, axes)) if keepdims else y


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum over `axis` (an int, a tuple, or None for all). The sum over no elements is 0.

    float32 is added up in float64 and rounded once. Integers and booleans give NumPy's integer sum.
    """
    x = _one("sum", x)
    axes = _axes("sum", x, axis)
    return _Sum.apply(x, axes=axes, keepdims=keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The mean over `axis`. Raises ValueError where there is nothing to average."""
    x = _one("mean", x)
    n = _count("mean", x, _axes("mean", x, axis))
    return sum(x, axis, keepdims) / n


def var(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """The variance over `axis`: the squared distances from the mean, divided by n - ddof.

    ddof = 0 is the variance of the numbers themselves, ddof = 1 estimates that of what they were drawn from.
    Raises ValueError if n - ddof is not positive.
    """
    x = _one_float("var", x)
    n = _count("var", x, _axes("var", x, axis))
    if n <= ddof:
        raise ValueError(f"var: n - ddof = {n} - {ddof} must be positive; x is {x.shape}, axis {axis}")
    distance = x - mean(x, axis, keepdims=True)
    return sum(distance * distance, axis, keepdims) / (n - ddof)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over `axis`; nan if there is one. Raises ValueError where there are no elements.

    Of several equal ones, the first in row-major order gets the gradient.
    """
    return _extreme("max", x, axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest element over `axis`; ties, nan and errors as in `max`."""
    return _extreme("min", x, axis, keepdims)


def argmax(x: Any, axis: int | None = None) -> Any:
    """The index of the (first) largest element along `axis`, or in the flattened array. Without history."""
    x = _one("argmax", x)
    axes = _axes("argmax", x, axis)
    _count("argmax", x, axes)
    return _no_history(lambda a: a.argmax(axis=None if axis is None else axes[0]), x)


# ------------------------------------------------------------------------------------ shapes
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


class _Pad(Function):
    def forward(self, x, *, widths, value):
        self.inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))
        return array_module(x).pad(x, widths, constant_values=value)

    def backward(self, gy):
        return gy[self.inside]


def reshape(x: Any, *shape: Any) -> Any:
    """x with another shape and the same elements in row-major order: reshape(x, (2, -1)) or reshape(x, 2, -1).

    One length may be -1: it is computed. A view where the memory allows it. Raises ValueError if it does not fit.
    """
    x = _one("reshape", x)
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
    x = _one("flatten", x)
    return reshape(x, (x.size,))


def transpose(x: Any, *axes: Any) -> Any:
    """x with its axes in another order: axis i of the result is axis axes[i] of x. Without `axes`: reversed.

    transpose(x, (0, 2, 1)) or transpose(x, 0, 2, 1). A view. Raises ValueError for what is no permutation.
    """
    x = _one("transpose", x)
    unchanged = tuple(range(x.ndim))
    if not axes:
        axes = (unchanged[::-1],)
    order = tuple(axes[0]) if isinstance(axes[0], (tuple, list)) else axes
    positive = tuple(a % x.ndim if -x.ndim <= a < x.ndim else a for a in order)
    if tuple(sorted(positive)) != unchanged:
        raise ValueError(f"transpose: axes {order} is no order of the {x.ndim} axes of x {x.shape}")
    return x if positive == unchanged else _Transpose.apply(x, axes=positive)


def swapaxes(x: Any, first: int, second: int) -> Any:
    """x with two axes exchanged."""
    x = _one("swapaxes", x)
    order = list(range(x.ndim))
    ((a,), (b,)) = _axes("swapaxes", x, first), _axes("swapaxes", x, second)
    order[a], order[b] = b, a
    return transpose(x, tuple(order))


def squeeze(x: Any, axis: Axis = None) -> Any:
    """x without its axes of length 1, or without those in `axis`. Raises ValueError if one is longer."""
    x = _one("squeeze", x)
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else _axes("squeeze", x, axis)
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of x {x.shape} has {x.shape[a]} elements; only 1 can be removed")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def expand_dims(x: Any, axis: int) -> Any:
    """x with a new axis of length 1 at position `axis` of the result."""
    x = _one("expand_dims", x)
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise ValueError(f"expand_dims: axis {axis} is outside the result, which has {x.ndim + 1} axes; x is {x.shape}")
    axis %= x.ndim + 1
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def broadcast_to(x: Any, shape: tuple[int, ...]) -> Any:
    """x repeated along axes of length 1 and along new axes in front, without copying: the result is read-only.

    Raises ValueError if x does not broadcast to `shape`.
    """
    x = _one("broadcast_to", x)
    shape = tuple(shape)
    if shape == x.shape:
        return x
    front = len(shape) - x.ndim
    if front < 0 or builtins.any(n not in (1, m) for n, m in zip(x.shape, shape[front:])):
        raise ValueError(f"broadcast_to: x {x.shape} does not broadcast to shape {shape}")
    return _BroadcastTo.apply(x, shape=shape)


def sum_to(x: Any, shape: tuple[int, ...]) -> Any:
    """x summed over the axes that broadcasting from `shape` to x.shape repeats: the transpose of broadcast_to.

    Returns x itself where the shapes agree. Raises ValueError if `shape` does not broadcast to x.shape.
    """
    x = _one("sum_to", x)
    shape = tuple(shape)
    if shape == x.shape:
        return x
    front = x.ndim - len(shape)
    if front < 0 or builtins.any(n not in (1, m) for n, m in zip(shape, x.shape[front:])):
        raise ValueError(f"sum_to: shape {shape} does not broadcast to x {x.shape}")
    repeated = tuple(i for i in range(x.ndim) if i < front or shape[i - front] == 1 != x.shape[i])
    return reshape(sum(x, repeated), shape)


def pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """x with `value` around it; x itself where all widths are 0.

    widths: one pair (before, after) for each axis, none negative (ValueError).
    """
    x = _one("pad", x)
    pairs: tuple[tuple[int, ...], ...] = tuple(tuple(pair) for pair in widths)
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
        parts = index if isinstance(index, tuple) else (index,)
        in_order = builtins.all(
            part is Ellipsis or (isinstance(part, slice) and part.step in (None, 1)) for part in parts
        )
        self.takes_all = in_order and y.shape == x.shape
        return y

    def backward(self, gy):
        if self.takes_all:  # as in x[:, :height, :width] of an image that needed no padding
            return gy
        return _PutItem.apply(gy, shape=self.shape, index=self.index)


class _PutItem(Function):
    """The transpose of indexing: zeros with x added at `index`."""

    def forward(self, x, *, shape, index):
        self.index = index
        xp = array_module(x)
        out = xp.zeros(shape, x.dtype)
        parts = index if isinstance(index, tuple) else (index,)
        if builtins.any(_is_array(part) and part.dtype.kind != "b" for part in parts):
            xp.add.at(out, index, x)  # an index array may name an element twice; `=` would keep only one gradient
        else:
            out[index] = x
        return out

    def backward(self, gy):
        return getitem(gy, self.index)


def _array_index(part: Any, device: str) -> Any:
    """One part of an index, with Tensors, arrays and lists as arrays of our own: backward needs them unchanged."""
    if isinstance(part, list):
        return to_device(np.array(part, dtype=None if part else np.intp), device)
    return to_device(_data(part).copy(), device) if _is_array(part) else part


def getitem(x: Any, index: Any) -> Any:
    """x[index] for all that NumPy knows: integers, slices, ..., None, integer arrays, boolean masks.

    An element named several times gets the sum of its gradients. Raises IndexError.
    """
    x = _one("getitem", x)
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(_array_index(part, device_of(_data(x))) for part in parts)
    index = parts if isinstance(index, tuple) else parts[0]
    try:
        return _GetItem.apply(x, index=index)
    except IndexError as error:
        raise IndexError(f"getitem: x {x.shape}: {error}") from None


def _setitem(self: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, in place. Only for a tensor that needs no gradient, or inside `with no_grad():`."""
    if isinstance(value, Tensor) and value.requires_grad and is_grad_enabled():
        raise RuntimeError("x[...] = value: value requires a gradient, which would be lost; use where or concat")
    self.changed_in_place()
    index = tuple(_data(part) for part in index) if isinstance(index, tuple) else _data(index)
    self.data[index] = _data(value)


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
        return gy * exp(x - y)


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) scaled to sum 1 along `axis`; does not overflow. Raises ValueError for an empty axis."""
    x = _one_float("softmax", x)
    axes = _axes("softmax", x, axis)
    _count("softmax", x, axes)
    return _Softmax.apply(x, axis=axes)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)) along `axis`, finite where softmax itself would round to 0."""
    x = _one_float("log_softmax", x)
    axes = _axes("log_softmax", x, axis)
    _count("log_softmax", x, axes)
    return _LogSoftmax.apply(x, axis=axes)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over `axis`, without overflow; -inf where all elements are."""
    x = _one_float("logsumexp", x)
    axes = _axes("logsumexp", x, axis)
    _count("logsumexp", x, axes)
    y = _LogSumExp.apply(x, axes=axes)
    return y if keepdims else squeeze(y, axes)


# ------------------------------------------------------------------------------------ operators and methods
def operator_method(function: Callable, reflected: bool = False) -> Callable:
    """A method for `x + y` (or, reflected, for `y + x` with y no Tensor); Python handles what is no number."""

    def method(self: Tensor, other: Any) -> Any:
        if not (hasattr(other, "dtype") or _is_scalar(other)):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return method


def add_operator(name: str, function: Callable) -> None:
    """Give Tensor the operator `name` ("add" for `x + y`), also with the tensor on the right."""
    setattr(Tensor, f"__{name}__", operator_method(function))
    setattr(Tensor, f"__r{name}__", operator_method(function, reflected=True))


def _elements(self: Tensor) -> Iterator[Any]:
    return (self[i] for i in range(len(self)))


# There is no __iadd__: Python then reads `x += y` as `x = x + y`, a new tensor, which is right in every graph.
for _name, _function in {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow}.items():
    add_operator(_name, _function)

_COMPARISONS = {"eq": equal, "ne": not_equal, "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal}
for _name, _function in {**_COMPARISONS, "and": logical_and, "or": logical_or}.items():
    setattr(Tensor, f"__{_name}__", operator_method(_function))

# Each of these is listed in operators.pyi, too.
_METHODS: dict[str, Any] = {
    "__hash__": object.__hash__,  # == compares elements; as a key of a dict a tensor is still itself
    "__neg__": neg,
    "__abs__": abs,
    "__invert__": logical_not,
    "__getitem__": getitem,
    "__setitem__": _setitem,
    "__iter__": _elements,
    "T": property(transpose, doc="The tensor with its axes reversed."),
    **{
        function.__name__: function
        for function in (
            *(exp, log, sqrt, abs, clip, astype, to, any, all, sum, mean, var, max, min, argmax),
            *(reshape, flatten, transpose, swapaxes, squeeze, expand_dims, broadcast_to),
        )
    },
}
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
