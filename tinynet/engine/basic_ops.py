"""The basic operations: arithmetic, reductions, shapes, indexing, softmax. None of them is a hand-written kernel.

    arguments.py    checks of the arguments and their errors; astype and to
    shapes.py       shapes, sums and indexing
    elementwise.py  arithmetic, functions of one array, comparisons, logic
    reductions.py   mean, var, max, min, any, all, softmax

This file collects them and gives Tensor its operators and methods. To learn how an operation is written, begin with
the rows at the top of `elementwise.py`.

Each operation is a small `Function` and a public function that checks its arguments. It is written once, on the
array module: NumPy, or CuPy for arrays on a GPU. Public functions take Tensors, arrays and Python scalars. If no
argument is a Tensor, they return a plain array. This is why one `backward`, written with operators and these
functions, serves both an ordinary backward pass (arrays) and `create_graph=True` (Tensors).

Rules that hold for every operation:

dtype       is preserved. Two different floating dtypes are an error, never a silent upcast. Scalars are weak: Python
            numbers and NumPy scalars take the dtype of the array beside them. Integer and boolean arrays take the
            dtype of a floating array beside them. If an operation needs a float (division, exp, mean) and no
            argument is one, integers become float32.
broadcast   as in NumPy. The gradient of a broadcast operand is summed back to its shape (`sum_to`): an element
            used n times gets the sum of n gradients.
errors      TypeError for dtypes, ValueError for shapes, IndexError for indices. Each names operation and argument.

`sum`, `max`, `min`, `abs`, `pow`, `any`, `all` carry the names of Python's builtins, as NumPy's do. Where these files
mean the builtin, they say `builtins.max`.
"""

# ruff: noqa: F401, I001  (users import every operation from here; the imports are grouped by kind)

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .arguments import astype, is_scalar, to
from .elementwise import abs, clip, exp, log, neg, sign, sqrt
from .elementwise import add, div, maximum, minimum, mul, pow, sub, where
from .elementwise import equal, greater, greater_equal, less, less_equal, not_equal
from .elementwise import logical_and, logical_not, logical_or
from .foreign import explained
from .reductions import all, any, argmax, argmin, log_softmax, logsumexp, max, mean, min, softmax, var
from .shapes import broadcast_to, expand_dims, flatten, getitem, pad, reshape, setitem, squeeze, sum, sum_to
from .shapes import scatter_add, swapaxes, transpose
from .tensor import Tensor, is_grad_enabled


def operator_method(function: Callable, reflected: bool = False) -> Callable:
    """A method for `x + y`, or (reflected) for `y + x` if y is not a Tensor.

    For an operand that is not a number it returns NotImplemented, and Python raises the TypeError.
    """

    def method(self: Tensor, other: Any) -> Any:
        if not (hasattr(other, "dtype") or is_scalar(other)):
            return NotImplemented
        return function(other, self) if reflected else function(self, other)

    return method


def in_place_method(function: Callable) -> Callable:
    """A method for `x += y`.

    Inside of `with no_grad():` it overwrites a leaf, so that `p -= lr * p.grad` updates a parameter. Anywhere else it
    is `x = x + y`, a new tensor, which is correct in every graph; a leaf that needs a gradient raises RuntimeError,
    because the variable would no longer be that leaf.
    """

    def method(self: Tensor, other: Any) -> Any:
        if not (hasattr(other, "dtype") or is_scalar(other)):
            return NotImplemented
        if not self.is_leaf or (is_grad_enabled() and not self.requires_grad):
            return function(self, other)
        if is_grad_enabled():
            self.changed_in_place()  # raises
        return self.assign(function(self, other))

    return method


def add_operator(name: str, function: Callable) -> None:
    """Give Tensor the operator `name` ("add" for `x + y`), also with the tensor on the right, and `x += y`."""
    setattr(Tensor, f"__{name}__", operator_method(function))
    setattr(Tensor, f"__r{name}__", operator_method(function, reflected=True))
    setattr(Tensor, f"__i{name}__", in_place_method(function))


def add_methods(*functions: Callable) -> None:
    """Give Tensor methods of the functions' names."""
    for function in functions:
        setattr(Tensor, function.__name__, explained(function, Tensor.__module__, f"Tensor.{function.__name__}"))


def _elements(self: Tensor) -> Iterator[Any]:
    return (self[i] for i in range(len(self)))


_ARITHMETIC: dict[str, Callable] = {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow}
for _name, _function in _ARITHMETIC.items():
    add_operator(_name, _function)

_COMPARISONS = {"eq": equal, "ne": not_equal, "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal}
for _name, _function in {**_COMPARISONS, "and": logical_and, "or": logical_or}.items():
    setattr(Tensor, f"__{_name}__", operator_method(_function))

# Each of these is listed in operators.pyi, too.
_METHODS: dict[str, Any] = {
    "__hash__": object.__hash__,  # == compares elements; a dict still finds a tensor by identity
    "__neg__": neg,
    "__abs__": abs,
    "__invert__": logical_not,
    "__getitem__": getitem,
    "__setitem__": setitem,
    "__iter__": _elements,
    "T": property(transpose, doc="The tensor with its axes reversed."),
}
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
add_methods(exp, log, sqrt, abs, clip, astype, to, any, all, sum, mean, var, max, min, argmax, argmin)
add_methods(reshape, flatten, transpose, swapaxes, squeeze, expand_dims, broadcast_to)
