"""How the operands of matmul lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.arrays import array_module


def as_it_lies(a: Any, is_transposed: bool) -> tuple[Any, bool]:
    """A contiguous array with the matrices of `a`, and whether they are transposed. Copies only an array with gaps."""
    swapped = a.swapaxes(-1, -2)
    if swapped.flags.c_contiguous and not a.flags.c_contiguous:
        return swapped, not is_transposed
    return array_module(a).ascontiguousarray(a), is_transposed


def sizes_of(x: Any, y: Any, transpose_x: bool, transpose_y: bool) -> tuple[tuple[int, ...], int, int, int]:
    """(the shape of the batch, rows, columns, terms) of the product; terms: the length of its sums."""
    terms, rows = x.shape[-2:] if transpose_x else x.shape[:-3:-1]
    columns = y.shape[-2] if transpose_y else y.shape[-1]
    # np.broadcast_shapes takes as long as a small product.
    batch = () if len(x.shape) == len(y.shape) == 2 else np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return batch, rows, columns, terms


def stack_of(a: np.ndarray, batch: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(the matrices of a, which of them each product of the batch takes): (S, ..) and int64 (products,). No copy."""
    if not batch:
        return a.reshape(1, *a.shape[-2:]), np.zeros(1, np.int64)
    stack = a.reshape(-1, *a.shape[-2:]) if a.size else a.reshape(0, *a.shape[-2:])
    own = np.arange(len(stack)).reshape(a.shape[:-2])
    return stack, np.array(np.broadcast_to(own, batch)).reshape(-1)
