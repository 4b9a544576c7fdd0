"""Dropout on a GPU: dropout.cu, a thread for each element or for the four of a counter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from .._cuda.elementwise import VARIANTS, run

SOURCE = Source(Path(__file__).with_name("dropout.cu"), VARIANTS)


def forward(x: Any, *, p: float, seed: int, stream: int, step: int, first: int = 0) -> Any:
    """y[i] = x[i] / (1 - p) where word number first + i is at least p 2^32, else 0; any shape."""
    scalars = (1 / (1 - p), round(p * 2**32), seed, stream, step, first)
    # A thread with four elements draws one counter, so word number `first` must be the first of a counter.
    return run(SOURCE, "dropout_forward", (x,), scalars, multiples=(first,))
