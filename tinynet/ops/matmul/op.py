"""matmul on Tensors: checks, vectors as matrices, and the gradients, which are matrix products too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...engine.arguments import check_broadcast, check_real, data_of, is_array, two
from ...engine.basic_ops import expand_dims, reshape, squeeze, sum_to
from ...engine.tensor import Function
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


class MatMul(Function):
    """z = x y for operands with at least two axes, either of them transposed first if so asked."""

    def forward(self, x, y, *, transpose_x=False, transpose_y=False):
        self.shapes = x.shape, y.shape
        self.transpose_x, self.transpose_y = transpose_x, transpose_y
        self.save(x if self.needs_grad[1] else None, y if self.needs_grad[0] else None)
        return forward(x, y, transpose_x=transpose_x, transpose_y=transpose_y)

    def backward(self, gz):
        x, y = self.saved
        gx, gy = None, None
        if self.needs_grad[0]:
            gx = sum_to(self.gradient_x(gz, y), self.shapes[0])
        if self.needs_grad[1]:
            gy = sum_to(self.gradient_y(gz, x), self.shapes[1])
        return gx, gy

    def gradient_x(self, gz, y):
        if self.transpose_x:  # the gradient of x^T is gz y^T, that of x its transpose, y gz^T
            return MatMul.apply(y, gz, transpose_x=self.transpose_y, transpose_y=True)
        return MatMul.apply(gz, y, transpose_y=not self.transpose_y)

    def gradient_y(self, gz, x):
        if self.transpose_y:  # the gradient of y^T is x^T gz, that of y its transpose, gz^T x
            return MatMul.apply(gz, x, transpose_x=True, transpose_y=self.transpose_x)
        return MatMul.apply(x, gz, transpose_x=not self.transpose_x)
