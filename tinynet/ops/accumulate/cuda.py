"""accumulate on a GPU: flat where both arrays are contiguous, else by rows of channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import empty, launch
from .._cuda.elementwise import VARIANTS, pack_width, row_grid, run
from .._shared.layout import rows_of

SOURCE = Source(Path(__file__).with_name("accumulate.cu"), VARIANTS)


def add(x: Any, y: Any) -> Any:
    """z[i] = x[i] + y[i]; x and y of one shape and dtype, each contiguous or a channel slice, or they are copied."""
    if x.flags.c_contiguous and y.flags.c_contiguous:
        return run(SOURCE, "add", (x, y))
    channels = x.shape[-1]
    z = empty(x.shape, x.dtype, like=x)
    (x, x_pitch), (y, y_pitch) = rows_of(x, channels), rows_of(y, channels)
    width = pack_width(x, y, z, multiples=(x_pitch, y_pitch, channels))
    rows = z.size // max(channels, 1)
    launch(
        SOURCE, "add_rows", *row_grid(rows, channels // width), x, x_pitch, y, y_pitch, z, rows, channels, WIDTH=width
    )  # fmt: skip
    return z
