"""How CUDA kernels that add up many numbers cut them into chunks, one for each block; see reduction.cuh.

The chunks depend on how many numbers there are and on nothing else, not on the GPU: so does the order of the additions.
"""

from __future__ import annotations

from ...backends.launch import blocks

THREADS = 256
MOST_CHUNKS = 1024  # enough blocks to fill a large GPU, few enough for a single block to add their sums


def chunking(n: int, at_once: int = THREADS) -> tuple[int, int]:
    """(length, count) of the chunks that n items are cut into; the last chunk may be shorter.

    at_once: how many items a block takes in one go; the length is the smallest multiple of it that will do.
    """
    length = at_once * max(1, blocks(n, at_once * MOST_CHUNKS))
    return length, blocks(n, length)
