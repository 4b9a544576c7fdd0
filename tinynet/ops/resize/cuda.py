"""resize on a GPU: a thread for each element of the result; see resize.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.arrays import array_module
from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch
from .._cuda.elementwise import THREADS
from .positions import positions

SOURCE = Source(Path(__file__).with_name("resize.cu"))


def forward(x: Any, size: int, mode: str) -> Any:
    """y (A, size, B): y[a, j, b] = (1 - f) x[a, i, b] + f x[a, i + 1, b] with i = lower[j], f = fraction[j]."""
    y = empty((x.shape[0], size, x.shape[2]), x.dtype, like=x)
    lower, fraction, _ = map(array_module(x).asarray, positions(x.shape[1], size, mode))
    arrays = contiguous(x), lower, fraction.astype(x.dtype), y
    launch(SOURCE, "resize", blocks(y.size, THREADS), THREADS, *arrays, y.size, x.shape[1], size, x.shape[2])
    return y


def backward(gy: Any, size: int, mode: str) -> Any:
    """gx (A, size, B): each output gives its gradient to its two inputs, in the same shares."""
    gx = empty((gy.shape[0], size, gy.shape[2]), gy.dtype, like=gy)
    lower, fraction, starts = map(array_module(gy).asarray, positions(size, gy.shape[1], mode))
    arrays = contiguous(gy), lower, fraction.astype(gy.dtype), starts, gx
    grid = blocks(gx.size, THREADS)
    launch(SOURCE, "resize_backward", grid, THREADS, *arrays, gx.size, size, gy.shape[1], gy.shape[2])
    return gx
