"""Binary cross-entropy with logits in CUDA: see bce_with_logits.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch
from .._cuda.reduction import THREADS, chunking

SOURCE = Source(Path(__file__).with_name("bce_with_logits.cu"))


def forward(x: Any, t: Any, w: Any = None, *, pos_weight: float = 1.0) -> Any:
    """L = (1/M) sum of w [q t softplus(-x) + (1 - t) softplus(x)], shape (), dtype of x; the sum is float64."""
    chunk, chunks = chunking(x.size)
    partial, loss = empty((chunks,), "float64", like=x), empty((), x.dtype, like=x)
    arrays = contiguous(x), contiguous(t), _weight(w), partial
    launch(SOURCE, "bce_sums", chunks, THREADS, *arrays, x.size, chunk, pos_weight)
    launch(SOURCE, "bce_finish", 1, THREADS, partial, loss, chunks, x.size)
    return loss


def backward(gy: Any, x: Any, t: Any, w: Any = None, *, pos_weight: float = 1.0) -> Any:
    """gx = gy (w / M) [(1 - t) sigma(x) - q t sigma(-x)], of the shape and dtype of x."""
    gx = empty(x.shape, x.dtype, like=x)
    arrays = contiguous(gy), contiguous(x), contiguous(t), _weight(w), gx
    launch(SOURCE, "bce_backward", blocks(x.size, THREADS), THREADS, *arrays, x.size, pos_weight)
    return gx


def _weight(w: Any) -> Any:
    return None if w is None else contiguous(w)
