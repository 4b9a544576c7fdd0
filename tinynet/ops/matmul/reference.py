"""matmul by its definition. The other tiers must agree.

Any axes before the last two count matrices; they broadcast. What the letters mean: derivation.md.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(x: np.ndarray, y: np.ndarray, *, transpose_x: bool = False, transpose_y: bool = False) -> np.ndarray:
    """z[.., i, k] = sum over j of x[.., i, j] y[.., j, k]; a transposed operand has its last two axes swapped first.

    x (..., n, m), y (..., m, k) -> z (..., n, k), in the dtype that x and y share.
    """
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y else y
    return np.einsum("...ij,...jk->...ik", x, y)
