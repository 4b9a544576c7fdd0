"""matmul, `blas`: NumPy's product, which runs the BLAS library. It reads transposed matrices in place."""

from __future__ import annotations

import numpy as np


def forward(
    x: np.ndarray,
    y: np.ndarray,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """z[.., i, k] = sum over j of x[.., i, j] y[.., j, k]; a transposed operand has its last two axes swapped first."""
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y else y
    return np.matmul(x, y)
