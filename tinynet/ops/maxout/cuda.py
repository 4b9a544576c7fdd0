"""Maxout on a GPU: a thread for each unit forward, for each piece backward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, delivered, launch, result_array
from .._cuda.elementwise import THREADS

SOURCE = Source(Path(__file__).with_name("maxout.cu"))


def forward(x: Any, *, pieces: int, out: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """(y, winner): y[..., m] = max over j of x[..., m pieces + j], and the int32 j where it was found."""
    shape = (*x.shape[:-1], x.shape[-1] // pieces)
    out_y, out_winner = (None, None) if out is None else out
    y = result_array(shape, x.dtype, out_y, like=x)
    winner = result_array(shape, "int32", out_winner, like=x)
    launch(SOURCE, "maxout_forward", blocks(y.size, THREADS), THREADS, contiguous(x), y, winner, y.size, pieces)
    return delivered(y, out_y), delivered(winner, out_winner)


def backward(gy: Any, winner: Any, *, pieces: int, out: Any = None) -> Any:
    """gx[..., m pieces + j] = gy[..., m] where j = winner[..., m], else 0; (..., C)."""
    gx = result_array((*gy.shape[:-1], gy.shape[-1] * pieces), gy.dtype, out, like=gy)
    launch(
        SOURCE, "maxout_backward", blocks(gx.size, THREADS), THREADS,
        contiguous(gy), contiguous(winner), gx, gx.size, pieces,
    )  # fmt: skip
    return delivered(gx, out)
