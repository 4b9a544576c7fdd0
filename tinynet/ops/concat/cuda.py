"""concat on a GPU: every array is copied by a launch of its own, as rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import empty, launch
from .._cuda.elementwise import VARIANTS, pack_width, row_grid
from .._shared.layout import rows_of

SOURCE = Source(Path(__file__).with_name("concat.cu"), VARIANTS)


def forward(*arrays: Any, axis: int) -> Any:
    """y[.., o_k + c, ..] = arrays[k][.., c, ..]; axis counted from the front, 0 <= axis < ndim."""
    before, after = arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]
    length = sum(a.shape[axis] for a in arrays)
    y = empty((*before, length, *after), arrays[0].dtype, like=arrays[0])
    rows, pitch, start = math.prod(before), length * math.prod(after), 0
    for a in arrays:
        width = math.prod(a.shape[axis:])
        if a.size:
            (x, x_pitch), place = rows_of(a, width), y.reshape(-1)[start:]
            pack = pack_width(x, place, multiples=(x_pitch, pitch, width))
            grid = row_grid(rows, width // pack)
            launch(SOURCE, "copy_rows", *grid, x, x_pitch, place, pitch, rows, width, WIDTH=pack)
        start += width
    return y
