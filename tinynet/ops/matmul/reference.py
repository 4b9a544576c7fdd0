"""matmul by its definition. The other tiers must agree.

Any axes before the last two count matrices; they broadcast. What the letters mean: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(
    x: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """z[.., i, k] = bias[k] + sum over j of x[.., i, j] y[.., j, k]; transposed: the last two axes are swapped.

    x (..., n, m), y (..., m, k), bias (k,) or None -> z (..., n, k), in the dtype that they share.
    """
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y else y
    z = np.einsum("...ij,...jk->...ik", x, y)
    return z if bias is None else z + bias
