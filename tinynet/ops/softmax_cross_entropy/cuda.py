"""Softmax cross-entropy in CUDA: see softmax_cross_entropy.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch
from .._cuda.reduction import THREADS, chunking

SOURCE = Source(Path(__file__).with_name("softmax_cross_entropy.cu"))
WARP = 32


def forward(x: Any, t: Any, w: Any = None) -> Any:
    """L = (1/W) sum over rows of w_t [log(sum_k exp(x_k - m)) - (x_t - m)], shape (), dtype of x."""
    classes = x.shape[-1]
    lanes = _lanes(classes)
    chunk, chunks = chunking(t.size, at_once=THREADS // lanes)
    partial, loss = empty((2, chunks), "float64", like=x), empty((), x.dtype, like=x)
    arrays = contiguous(x), _indices(t), _weights(w), partial
    launch(SOURCE, "softmax_cross_entropy_sums", chunks, THREADS, *arrays, t.size, chunk, classes, lanes)
    launch(SOURCE, "softmax_cross_entropy_finish", 1, THREADS, partial, loss, chunks)
    return loss


def backward(gy: Any, x: Any, t: Any, w: Any = None) -> Any:
    """gx = gy (w_t / W) (p_c - [c = t]), of the shape and dtype of x."""
    classes = x.shape[-1]
    lanes = _lanes(classes)
    t, w = _indices(t), _weights(w)
    gx = empty(x.shape, x.dtype, like=x)
    arrays = contiguous(gy), contiguous(x), t, w, _total_weight(t, w, classes), gx
    grid = blocks(t.size, THREADS // lanes)
    launch(SOURCE, "softmax_cross_entropy_backward", grid, THREADS, *arrays, t.size, classes, lanes)
    return gx


def _total_weight(t: Any, w: Any, classes: int) -> Any:
    """W, shape (); None without weights, where it is the number of rows."""
    if w is None:
        return None
    chunk, chunks = chunking(t.size)
    partial, total = empty((chunks,), "float64", like=w), empty((), w.dtype, like=w)
    launch(SOURCE, "softmax_cross_entropy_weights", chunks, THREADS, t, w, partial, t.size, chunk, classes)
    launch(SOURCE, "softmax_cross_entropy_total_weight", 1, THREADS, partial, total, chunks)
    return total


def _lanes(classes: int) -> int:
    """How many threads share a row: the smallest power of two that is not below the number of classes, up to a warp."""
    return min(WARP, 1 << (classes - 1).bit_length())


def _indices(t: Any) -> Any:
    """The targets as the kernels read them. A value too large for int64 becomes negative: it is still not a class."""
    return contiguous(t.astype("int64", copy=False))


def _weights(w: Any) -> Any:
    return None if w is None else contiguous(w)
