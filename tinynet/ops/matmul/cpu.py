"""matmul on the CPU.

    by_size    the default: one of the other three, which `choose` chooses
    blocked    register blocks (`ops/_cpu/gemm.py`)
    vector     a product with one row or one column: one pass over the matrix
    blas       NumPy's product, which runs the BLAS library

BLAS computes small products in the calling thread, faster than a Numba kernel can even be called. For larger products
it has threads of its own, which are in the way of all other threads: see blocked.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import blocked, vector
from .operands import sizes_of

# Multiply-adds up to which OpenBLAS uses one thread: of a product of matrices, and of a product with a vector.
ALONE, ALONE_WITH_VECTOR = 2**18, 9216


def choose(batch: tuple[int, ...], rows: int, columns: int, terms: int, dtype: np.dtype) -> str:
    """The name of the version that runs for products z (*batch, rows, columns), summed over `terms`."""
    is_vector = rows == 1 or columns == 1
    is_small = math.prod(batch) * rows * columns * terms <= (ALONE_WITH_VECTOR if is_vector else ALONE)
    if is_small or dtype not in (np.float32, np.float64):  # other dtypes: integers, above all
        return "blas"
    return "vector" if is_vector else "blocked"


def version_of(kernel: str, arguments: dict[str, Any], wanted: str = "by_size") -> str:
    """The version that a call runs if `wanted` is asked for. arguments: by their names in reference.py."""
    x, y = arguments["x"], arguments["y"]
    sizes = sizes_of(x, y, arguments.get("transpose_x", False), arguments.get("transpose_y", False))
    return choose(*sizes, x.dtype) if wanted == "by_size" else wanted


def forward(
    x: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """z[.., i, k] = bias[k] + sum over j of x[.., i, j] y[.., j, k]; transposed: the last two axes are swapped."""
    version = choose(*sizes_of(x, y, transpose_x, transpose_y), x.dtype)
    return VERSIONS[version](x, y, bias, transpose_x=transpose_x, transpose_y=transpose_y)


def _blas(
    x: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    transpose_x: bool = False,
    transpose_y: bool = False,
) -> np.ndarray:
    """BLAS reads transposed matrices in place."""
    x = np.swapaxes(x, -1, -2) if transpose_x else x
    y = np.swapaxes(y, -1, -2) if transpose_y else y
    z = np.matmul(x, y)
    if bias is not None:
        z += bias
    return z


VERSIONS = {"blocked": blocked.forward, "vector": vector.forward, "blas": _blas}
# `vector` cannot be chosen for a whole net: it has no products with several rows and columns.
IMPLEMENTATIONS = {"by_size": {"forward": forward}, "blocked": {"forward": blocked.forward}, "blas": {"forward": _blas}}
