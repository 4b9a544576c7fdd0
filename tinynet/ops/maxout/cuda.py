"""Maxout on a GPU: a thread for each unit forward, for each piece backward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch
from .._cuda.elementwise import THREADS

SOURCE = Source(Path(__file__).with_name("maxout.cu"))


def forward(x: Any, *, pieces: int) -> tuple[Any, Any]:
    """(y, winner): y[..., m] = max over j of x[..., m pieces + j], and the int32 j where it was found."""
    shape = (*x.shape[:-1], x.shape[-1] // pieces)
    y = empty(shape, x.dtype, like=x)
    winner = empty(shape, "int32", like=x)
    launch(SOURCE, "maxout_forward", blocks(y.size, THREADS), THREADS, contiguous(x), y, winner, y.size, pieces)
    return y, winner


def backward(gy: Any, winner: Any, *, pieces: int) -> Any:
    """gx[..., m pieces + j] = gy[..., m] where j = winner[..., m], else 0; (..., C)."""
    gx = empty((*gy.shape[:-1], gy.shape[-1] * pieces), gy.dtype, like=gy)
    launch(
        SOURCE, "maxout_backward", blocks(gx.size, THREADS), THREADS,
        contiguous(gy), contiguous(winner), gx, gx.size, pieces,
    )  # fmt: skip
    return gx
