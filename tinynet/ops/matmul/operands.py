"""How the operands of matmul lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.arrays import array_module


def as_it_lies(a: Any, is_transposed: bool) -> tuple[Any, bool]:
    """A contiguous array with the matrices of `a`, and whether they are transposed. Only what has gaps is copied."""
    swapped = a.swapaxes(-1, -2)
    if swapped.flags.c_contiguous and not a.flags.c_contiguous:
        return swapped, not is_transposed
    return array_module(a).ascontiguousarray(a), is_transposed


def sizes_of(x: Any, y: Any, transpose_x: bool, transpose_y: bool) -> tuple[tuple[int, ...], int, int, int]:
    """(the shape of the batch, rows, columns, terms) of the product."""
    terms, rows = x.shape[-2:] if transpose_x else x.shape[:-3:-1]
    columns = y.shape[-2] if transpose_y else y.shape[-1]
    return np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), rows, columns, terms


def starts(a: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """Where each matrix of the batch begins, in elements: int64 (matrices,). One that is broadcast occurs again."""
    own = np.arange(0, a.size, a.shape[-2] * a.shape[-1]).reshape(a.shape[:-2])
    return np.array(np.broadcast_to(own, batch)).reshape(-1)
