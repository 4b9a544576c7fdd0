"""The soft Dice loss in CUDA: see dice.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import contiguous, empty, launch
from .._cuda.reduction import THREADS, chunking

SOURCE = Source(Path(__file__).with_name("dice.cu"))


def forward(p: Any, t: Any, *, smooth: float = 1.0, per_image: bool = False) -> tuple[Any, Any]:
    """(loss, sums): the loss (), in the dtype of p, and I and S of each group (G, 2), in float64."""
    groups = len(p) if per_image else 1
    length = p.size // groups
    chunk, chunks = chunking(length)
    partial = empty((groups, chunks, 2), "float64", like=p)
    sums, loss = empty((groups, 2), "float64", like=p), empty((), p.dtype, like=p)
    launch(SOURCE, "dice_sums", groups * chunks, THREADS, contiguous(p), contiguous(t), partial, length, chunk, chunks)
    launch(SOURCE, "dice_finish", 1, THREADS, partial, sums, loss, groups, chunks, smooth)
    return loss, sums


def backward(gy: Any, t: Any, sums: Any, *, smooth: float = 1.0) -> Any:
    """gp = gy (constant_g - slope_g t), of the shape and dtype of t."""
    groups = len(sums)
    length = t.size // groups
    chunk, chunks = chunking(length)
    gp = empty(t.shape, t.dtype, like=t)
    sums = contiguous(sums.astype("float64", copy=False))
    arrays = contiguous(gy), contiguous(t), sums, gp
    launch(SOURCE, "dice_backward", groups * chunks, THREADS, *arrays, groups, length, chunk, chunks, smooth)
    return gp
