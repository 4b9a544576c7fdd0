"""matmul on Tensors: checks, vectors as matrices, and the gradients, which are matrix products too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...engine.arguments import check_broadcast, check_real, data_of, is_array, two
from ...engine.basic_ops import expand_dims, reshape, squeeze, sum_to
from ...engine.tensor import Function
from .._shared.checks import check_float, check_ndim
from .reference import forward


def matmul(x: Any, y: Any) -> Any:
    """The matrix product x @ y: (..., n, m) @ (..., m, k) -> (..., n, k); leading axes broadcast.

    An operand with one axis is a row (x) or a column (y) whose axis of length 1 is dropped again from the result;
    two of them give the dot product. Raises ValueError for shapes that do not fit.
    """
    if not (is_array(x) and is_array(y)) or x.ndim == 0 or y.ndim == 0:
        shapes = ", ".join(f"{name} {np.shape(data_of(a))}" for name, a in (("x", x), ("y", y)))
        raise ValueError(f"matmul: {shapes}; both operands need at least one axis, use * for numbers")
    check_real("matmul", x, "x")
    check_real("matmul", y, "y")
    inner = y.shape[0] if y.ndim == 1 else y.shape[-2]
    if x.shape[-1] != inner:
        raise ValueError(
            f"matmul: x {x.shape} has {x.shape[-1]} columns, y {y.shape} has {inner} rows; they must be the same number"
        )
    # Only the leading axes broadcast, and their rows and columns are checked above: hide those from the check.
    check_broadcast("matmul", (*x.shape[:-2], 1, 1), (*y.shape[:-2], 1, 1), ("x", "y"))
    if x.dtype != y.dtype:
        one, other = two("matmul", reshape(x, (x.size, 1)), reshape(y, (1, y.size)))
        x, y = reshape(one, x.shape), reshape(other, y.shape)
    if x.ndim == 1:
        return squeeze(matmul(expand_dims(x, 0), y), -1 if y.ndim == 1 else -2)
    if y.ndim == 1:
        return squeeze(matmul(x, expand_dims(y, 1)), -1)
    if x.ndim > 2 and y.ndim == 2:
        # One product with many rows instead of many small ones; above all, y's gradient is then one product too,
        # not a stack of matrices to be summed.
        rows = reshape(x, (math.prod(x.shape[:-1]), inner))
        return reshape(MatMul.apply(rows, y), (*x.shape[:-1], y.shape[1]))
    return MatMul.apply(x, y)


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """A fully connected layer, x @ weight + bias on the last axis: (..., n) -> (..., k).

    weight: (n, k). bias: (k,) or None; the kernel adds it to each row before it stores the row.
    Raises ValueError for shapes that do not fit, TypeError for arguments that are no arrays of one dtype; integers are
    converted.
    """
    arguments = {"x": x, "weight": weight} if bias is None else {"x": x, "weight": weight, "bias": bias}
    for name, a in arguments.items():
        check_real("linear", a, name)
        if not is_array(a):
            raise TypeError(f"linear: {name} is the number {a}; a Tensor or an array is needed")
    check_float("linear", **{name: a for name, a in arguments.items() if a.dtype.kind == "f"})
    check_ndim("linear", "weight", weight, 2, "(features of x, columns)")
    features, columns = weight.shape
    if x.shape[-1:] != (features,):
        raise ValueError(
            f"linear: weight {weight.shape} expects {features} features on the last axis of x, x has shape {x.shape}"
        )
    if bias is not None and bias.shape != (columns,):
        raise ValueError(f"linear: bias {bias.shape} must have one value for each of the {columns} columns of weight")
    if bias is None or not x.dtype == weight.dtype == bias.dtype:
        y = matmul(x, weight)  # which converts integers, as + does
        return y if bias is None else y + bias
    if x.ndim == 2:
        return MatMul.apply(x, weight, bias)
    rows = reshape(x, (math.prod(x.shape[:-1]), features))
    return reshape(MatMul.apply(rows, weight, bias), (*x.shape[:-1], columns))


class MatMul(Function):
    """z = x y + bias for operands with at least two axes, either of them transposed first if so asked."""

    def forward(self, x, y, *bias, transpose_x=False, transpose_y=False):
        self.shapes = x.shape, y.shape
        self.transpose_x, self.transpose_y = transpose_x, transpose_y
        self.save(x if self.needs_grad[1] else None, y if self.needs_grad[0] else None)
        return forward(x, y, *bias, transpose_x=transpose_x, transpose_y=transpose_y)

    def backward(self, gz):
        x, y = self.saved
        gx, gy = None, None
        if self.needs_grad[0]:
            gx = sum_to(self.gradient_x(gz, y), self.shapes[0])
        if self.needs_grad[1]:
            gy = sum_to(self.gradient_y(gz, x), self.shapes[1])
        return gx, gy, *(self.gradient_bias(gz) if needed else None for needed in self.needs_grad[2:])

    def gradient_x(self, gz, y):
        if self.transpose_x:  # the gradient of x^T is gz y^T, that of x its transpose, y gz^T
            return MatMul.apply(y, gz, transpose_x=self.transpose_y, transpose_y=True)
        return MatMul.apply(gz, y, transpose_y=not self.transpose_y)

    def gradient_y(self, gz, x):
        if self.transpose_y:  # the gradient of y^T is x^T gz, that of y its transpose, gz^T x
            return MatMul.apply(gz, x, transpose_x=True, transpose_y=self.transpose_x)
        return MatMul.apply(x, gz, transpose_x=not self.transpose_x)

    def gradient_bias(self, gz):
        """Like that of a convolution whose image has one row, with a pixel for each row of z."""
        from ..conv2d.op import BackwardBias  # not above: every program imports matmul, and few need convolutions

        return BackwardBias.apply(gz.reshape((1, 1, math.prod(gz.shape[:-1]), gz.shape[-1])))
