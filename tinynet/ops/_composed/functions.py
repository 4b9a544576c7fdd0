"""clone, sin, cos, floor, ceil, round, std, norm, prod, cumsum, sort, topk, cat, einsum.

The rules at the top of `engine/basic_ops.py` hold here, too. Most functions are written with operations that have
derivatives, so they have first and second derivatives without a line for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...engine.arguments import Axis, axes_and_count, data_of, kept_shape, no_history, one, one_float, sorted_axes
from ...engine.basic_ops import abs, astype, getitem, max, reshape, sqrt, sum, transpose, var
from ...engine.elementwise import elementwise
from ...engine.reductions import as_rows
from ...engine.tensor import Function
from ..concat.op import concat
from ..matmul.op import matmul

_Clone = elementwise("_Clone", lambda x: x.copy(), x=lambda gz: gz)
_Sin = elementwise("_Sin", lambda x: array_module(x).sin(x), x=lambda gz, x: gz * cos(x))
_Cos = elementwise("_Cos", lambda x: array_module(x).cos(x), x=lambda gz, x: -gz * sin(x))


def clone(x: Any) -> Any:
    """A copy of x in memory of its own. The gradient flows through; a copy without history is `clone(x).detach()`."""
    return _Clone.apply(one("clone", x))


def sin(x: Any) -> Any:
    """The sine of x, in radians."""
    return _Sin.apply(one_float("sin", x))


def cos(x: Any) -> Any:
    """The cosine of x, in radians."""
    return _Cos.apply(one_float("cos", x))


def _rounding(name: str, doc: str) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        return no_history(lambda a: getattr(array_module(a), name)(a) if a.dtype.kind == "f" else a, one(name, x))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} Without history: the derivative is 0 wherever it exists. Integers stay as they are."
    return function


floor = _rounding("floor", "The largest integer that is not above x.")
ceil = _rounding("ceil", "The smallest integer that is not below x.")
round = _rounding("round", "The nearest integer, of two the even one.")


def _root(x: Any, p: float = 2) -> Any:
    """The p-th root of a sum of powers. At 0 it has the gradient 0, where the derivative of the root is infinite."""
    is_zero = x == 0
    return (sqrt(x + is_zero) if p == 2 else (x + is_zero) ** (1 / p)) - is_zero


def std(x: Any, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """The standard deviation over `axis`: the square root of `var`. Where it is 0, the gradient is 0.

    ddof = 0, as in NumPy and Keras; PyTorch divides by n - 1, which is ddof = 1. Errors as in `var`.
    """
    return _root(var(one_float("std", x), axis, ddof, keepdims))


def norm(x: Any, p: float = 2, axis: Axis = None, keepdims: bool = False) -> Any:
    """The p-norm over `axis`: (sum |x|^p)^(1/p), for p = inf the largest |x|. Where it is 0, the gradient is 0.

    The sum is computed in float64. Without `axis`, all elements are one vector. Raises ValueError unless p >= 1.
    """
    x = one_float("norm", x)
    if not p >= 1:
        raise ValueError(f"norm: p is {p}; a number from 1 to inf is needed")
    if p in (1, math.inf):
        return (sum if p == 1 else max)(abs(x), axis, keepdims)
    wide = astype(x, np.float64)
    return astype(_root(sum(wide * wide if p == 2 else abs(wide) ** p, axis, keepdims), p), x.dtype)


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The product over `axis`; 1 if there are no elements. Integers and booleans give an integer product.

    Pairs are multiplied, then pairs of the products, and so on. Unlike prod / x, the gradient of this is right at 0.
    """
    x = one("prod", x)
    x = astype(x, {"b": np.int64, "i": np.int64, "u": np.uint64}.get(x.dtype.kind, x.dtype))
    axes = sorted_axes("prod", x, axis)
    rows = as_rows(x, axes)
    if rows.shape[-1] == 0:
        return sum(x, axes, keepdims) + 1
    while (n := rows.shape[-1]) > 1:
        middle = n // 2
        pairs = rows[..., :middle] * rows[..., middle : 2 * middle]
        rows = concat([pairs, rows[..., 2 * middle :]], -1) if n % 2 else pairs
    return reshape(rows, kept_shape(x.shape, axes) if keepdims else rows.shape[:-1])


class _CumSum(Function):
    def forward(self, x, *, axis):
        self.axis = axis
        return x.cumsum(axis, dtype=np.float64).astype(x.dtype) if x.dtype == np.float32 else x.cumsum(axis)

    def backward(self, gy):  # x[i] is a part of y[i] and of all that follow
        backwards = (slice(None),) * self.axis + (slice(None, None, -1),)
        return cumsum(gy[backwards], self.axis)[backwards]


def cumsum(x: Any, axis: int) -> Any:
    """The sums of the first 1, 2, ... elements along `axis`. float32 is summed in float64."""
    x = one("cumsum", x)
    return _CumSum.apply(x, axis=sorted_axes("cumsum", x, axis)[0])


def sort(x: Any, axis: int = -1, descending: bool = False) -> tuple[Any, Any]:
    """(the sorted values, their indices) along `axis`. Equal elements keep their order; nan counts as the largest."""
    x = one("sort", x)
    (axis,), n = axes_and_count("sort", x, axis)
    xp = array_module(data_of(x))
    stable = {"kind": "stable"} if xp is np else {}  # CuPy's argsort is always stable
    if descending:  # reversed twice, so that equal elements keep their order
        indices = n - 1 - xp.flip(xp.argsort(xp.flip(data_of(x), axis), axis, **stable), axis)
    else:
        indices = xp.argsort(data_of(x), axis, **stable)
    places = xp.ogrid[tuple(slice(n) for n in x.shape)]
    return getitem(x, (*places[:axis], indices, *places[axis + 1 :])), no_history(lambda _: indices, x)


def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """(the k largest values, their indices) along `axis`, the largest first; with largest=False the smallest.

    Raises ValueError unless 1 <= k <= the length of the axis.
    """
    x = one("topk", x)
    (axis,), n = axes_and_count("topk", x, axis)
    if not 1 <= k <= n:
        raise ValueError(f"topk: k is {k}; axis {axis} of x {x.shape} has {n} elements, so 1 <= k <= {n} is needed")
    first = (slice(None),) * axis + (slice(k),)
    values, indices = sort(x, axis, descending=largest)
    return values[first], indices[first]


cat = concat  # the name in PyTorch


def einsum(formula: str, *arrays: Any) -> Any:
    """Einstein's sum: einsum("ij,jk->ik", x, y) is the matrix product, einsum("ij->j", x) the sum of each column.

    formula: one letter for each axis of each array, then `->` and the letters of the result. A letter that the result
        lacks is summed over. Each array is joined to the result so far by one call of `matmul`.
    Raises ValueError for a formula that does not fit the arrays. Not supported: `...`, and a letter twice in one array.
    """
    left, arrow, result = formula.replace(" ", "").partition("->")
    terms = left.split(",")
    arrays = tuple(one("einsum", a, f"arrays[{i}]") for i, a in enumerate(arrays))
    named = [pair for term, a in zip(terms, arrays) for pair in zip(term, a.shape)]
    lengths = dict(named)
    fits = arrow and len(terms) == len(arrays) and all(lengths[c] == n for c, n in named)
    fits = fits and all(len(set(term)) == len(term) == a.ndim for term, a in zip(terms, arrays))
    if not fits or len(set(result)) < len(result) or not set(result) <= set(lengths) or "." in left:
        raise ValueError(
            f"einsum: {formula!r} does not fit arrays of the shapes {[a.shape for a in arrays]}: a different letter "
            "for each axis of an array, lengths that agree, and -> with letters of the arrays behind it are needed"
        )

    def grouped(x: Any, letters: str, *groups: str) -> Any:  # one axis for each group of letters
        order = tuple(letters.index(c) for c in "".join(groups))
        return reshape(transpose(x, order), tuple(math.prod(lengths[c] for c in group) for group in groups))

    x, letters = arrays[0], terms[0]
    for i, (y, term) in enumerate(zip(arrays[1:], terms[1:]), start=2):
        rows, columns = _without(letters, term), _without(term, letters)
        inner = _without(_without(letters, rows), result + "".join(terms[i:]))  # nothing later needs these letters
        batch = _without(letters, rows + inner)
        product = matmul(grouped(x, letters, batch, rows, inner), grouped(y, term, batch, inner, columns))
        letters = batch + rows + columns
        x = reshape(product, tuple(lengths[c] for c in letters))
    kept = _without(letters, _without(letters, result))
    return grouped(sum(x, tuple(i for i, c in enumerate(letters) if c not in result)), kept, *result)


def _without(letters: str, others: str) -> str:
    return "".join(c for c in letters if c not in others)
