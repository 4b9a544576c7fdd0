"""matmul, `blas`: NumPy's product, which runs the BLAS library. It reads transposed matrices in place."""

from __future__ import annotations

import numpy as np

from ...backends.out import delivered


def forward(
    x: np.ndarray,
    y: np.ndarray,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """z[.., i, k] = sum over j of x[.., i, j] y[.., j, k]; a transposed operand has its last two axes swapped first."""
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y else y
    # Into memory with gaps BLAS cannot write.
    z = np.matmul(x, y, out=out if out is not None and out.flags.c_contiguous else None)
    return delivered(z, out)
