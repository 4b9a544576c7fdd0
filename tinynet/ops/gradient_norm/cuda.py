"""The norm of all gradients in CUDA, in one launch for all of them: see gradient_norm.cu."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import empty, launch
from .._cuda.tensor_table import THREADS, launch_over_tensors, tables

SOURCE = Source(Path(__file__).with_name("gradient_norm.cu"))


def sum_of_squares(gradients: Sequence[Any]) -> Any:
    """The sum of the squares of all elements of all gradients, shape (), float64. One gradient at least."""
    totals = []
    for table in tables("gradient_norm_sums", {"gradients": gradients}):
        chunks = len(table.chunks)
        partial, total = empty((chunks,), "float64", like=table.chunks), empty((), "float64", like=table.chunks)
        table.launch(SOURCE, "gradient_norm_sums", partial)
        launch(SOURCE, "gradient_norm_finish", 1, THREADS, partial, total, chunks, real=table.real)
        totals.append(total)
    return totals[0] if len(totals) == 1 else sum(totals)


def scale(gradients: Sequence[Any], *, factor: float) -> None:
    """Multiply all gradients by a factor, in place."""
    launch_over_tensors(SOURCE, "gradient_norm_scale", {"gradients": gradients}, 1, factor)
