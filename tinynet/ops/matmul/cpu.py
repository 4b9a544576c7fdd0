"""matmul on the CPU.

    by_size    the default: one of the others
    blocked    register blocks, by explicit SIMD (`ops/simd.py`)
    vector     where z has one row or one column: a pass over the matrix; other products go to `blocked`
    blas       NumPy's product, which runs the BLAS library

BLAS computes small products in the thread that asks for them, quicker than Numba can even be called. For larger ones it
has threads of its own, which are in the way of all others: blocked.py.
"""

from __future__ import annotations

import math

import numpy as np

from .._cpu.old_simd import REGISTER_BYTES
from . import blas, blocked, vector
from .operands import sizes_of

# Multiply-adds up to which OpenBLAS uses one thread: of a product of matrices, and with a vector.
ALONE, ALONE_WITH_VECTOR = 2**18, 9216


def forward(
    x: np.ndarray,
    y: np.ndarray,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """z[.., i, k] = sum over j of x[.., i, j] y[.., j, k]; a transposed operand has its last two axes swapped first."""
    batch, rows, columns, terms = sizes_of(x, y, transpose_x, transpose_y)
    is_vector = rows == 1 or columns == 1
    is_small = math.prod(batch) * rows * columns * terms <= (ALONE_WITH_VECTOR if is_vector else ALONE)
    large = vector if is_vector else blocked if REGISTER_BYTES else blas
    return (blas if is_small else large).forward(x, y, transpose_x=transpose_x, transpose_y=transpose_y)


IMPLEMENTATIONS = {
    "by_size": {"forward": forward},
    "blocked": {"forward": blocked.forward},
    "vector": {"forward": vector.forward},
    "blas": {"forward": blas.forward},
}
