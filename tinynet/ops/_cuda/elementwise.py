"""The host side of kernels on flat arrays and on rows: how many elements a thread takes, which grid and block."""

from __future__ import annotations

from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, is_aligned, launch

THREADS = 256  # in a block: eight warps, enough for one to work while the others wait for memory
# WIDTH: how many neighbors a thread reads at once, pack.cuh.
VARIANTS = [{"real": "float", "WIDTH": 4}, {"real": "float", "WIDTH": 1}, {"real": "double", "WIDTH": 1}]
MOST_BLOCKS_ACROSS = 65535  # along y, the limit of all GPUs; a thread loops over further elements


def run(
    source: Source,
    kernel: str,
    arrays: tuple[Any, ...],
    scalars: tuple[float, ...] = (),
    multiples: tuple[int, ...] = (),
) -> Any:
    """kernel(*arrays, result, size, *scalars), a thread for each pack; the result is shaped like the first array.

    multiples: numbers that must be multiples of four, or packs have one element.
    """
    shape, dtype = arrays[0].shape, arrays[0].dtype
    flat = [contiguous(a) for a in arrays]
    y = empty(shape, dtype, like=arrays[0])
    width = pack_width(*flat, y, multiples=multiples)
    launch(source, kernel, blocks(y.size, width * THREADS), THREADS, *flat, y, y.size, *scalars, WIDTH=width)
    return y


def pack_width(*arrays: Any, multiples: tuple[int, ...] = ()) -> int:
    """4 where every pack of four starts at a multiple of 16 bytes: float32 (the first array) and int32; else 1.

    multiples: the numbers of elements whose multiples are the places where packs start: pitches, widths of rows.
    """
    fits = arrays[0].dtype == "float32" and is_aligned(*arrays) and all(n % 4 == 0 for n in multiples)
    return 4 if fits else 1


def row_grid(rows: int, items: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(grid, block) for rows of so many packs: threads along x share a row, and as many rows as fit lie along y."""
    across = max(1, min(items, THREADS))
    down = THREADS // across
    return (blocks(rows, down), min(blocks(items, across), MOST_BLOCKS_ACROSS)), (across, down)
