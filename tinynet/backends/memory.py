"""A pool of memory for large arrays: `memory.empty` in place of `np.empty`.

Why. A training step makes the same few hundred arrays as the step before, some of them 100 MB large. `np.empty` asks
the operating system for each, and gives the memory back when the array dies. The system sets each page of fresh memory
to zero when the page is first touched, which often costs more than the kernel that fills it. So the pool keeps blocks
of memory that no array uses any more, for the next array of the same size.

When is a block free? When no array can reach it any more: neither the array made here, nor a slice of it, nor a
reshaped Tensor. NumPy counts for us. Every view of an array holds, as its `.base`, the object that the memory came
from. For the arrays made here that object is a *lease*. When the last array dies, Python deletes the lease, and
`_Lease.__del__` returns the block to the pool.

How much is kept. The sizes of free blocks seldom fit exactly, so two rules balance memory against fresh pages. A free
block may serve an array of half its size; the smallest that fits is taken. Before the pool takes memory from the
system, it gives back the blocks that are idle longest, until it holds at most 1.125 times the largest number of bytes
that were in use at once, or no more than 64 MB are free. A training step of the U-Net (16 images of 256 x 256, 0.84 GB
in use) then holds 0.92 GB, and asks the system for no memory from the second step on.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import threading
from collections import deque
from typing import Any, NamedTuple

import numpy as np

# Smaller arrays come from np.empty: up to this size the C library keeps freed memory itself.
SMALLEST = 1 << 17  # bytes
HUGE_PAGE = 1 << 21  # bytes
ALIGNMENT = 64  # bytes: a cache line, and the widest vector
LARGER = 2.0  # a block may be at most this many times as large as the array
HEADROOM = 1.125  # bytes held at most, for each byte that was ever in use at once
ALWAYS_KEPT = 64 << 20  # bytes that may be free in any case


class Usage(NamedTuple):
    """Bytes: in arrays, waiting in the pool, and the most that was ever in arrays at one time."""

    in_use: int
    free: int
    peak: int


class _Lease:
    """The right to use one block, held by the arrays in it. NumPy makes an array of it by its __array_interface__."""

    __slots__ = ("__array_interface__", "_block", "_give_back")

    def __init__(self, block: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, give_back: Any) -> None:
        data = block.__array_interface__["data"]
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": data}
        self._block, self._give_back = block, give_back

    def __del__(self) -> None:
        self._give_back(self._block)


def _from_system(nbytes: int) -> np.ndarray:
    """Fresh memory that starts at a multiple of ALIGNMENT; large blocks lie in huge pages.

    A processor remembers the addresses of some hundred pages. With pages of 4 kB, a convolution over 20 MB looks up
    addresses all the time; with pages of 2 MB it does not. Linux uses huge pages on request, from a multiple of their
    size on.
    """
    size = -(-nbytes // HUGE_PAGE) * HUGE_PAGE
    try:
        if nbytes < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
            return _aligned(np.empty(nbytes + ALIGNMENT, np.uint8), nbytes, ALIGNMENT)
        region = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError):  # OverflowError and ValueError: more bytes than addresses
        raise MemoryError from None
    with contextlib.suppress(OSError):  # a system without huge pages
        region.madvise(mmap.MADV_HUGEPAGE)
    return _aligned(np.frombuffer(region, np.uint8), size, HUGE_PAGE)  # the rest is never touched: it costs nothing


def _aligned(memory: np.ndarray, nbytes: int, alignment: int) -> np.ndarray:
    """`nbytes` bytes of the memory, from the first address that is a multiple of `alignment`."""
    start = -memory.__array_interface__["data"][0] % alignment
    return memory[start : start + nbytes]


class Pool:
    """Blocks of memory, free or in use. One pool, at the end of this file, serves all of tinynet and all threads."""

    def __init__(self, always_kept: int = ALWAYS_KEPT) -> None:
        self._always_kept = always_kept
        self._lock = threading.Lock()
        # A lease may end at any moment, even while this thread is at work in here and holds the lock. So it only
        # appends its block to `_returned`, which needs no lock; `_collect` does the rest later.
        self._returned: deque[np.ndarray] = deque()
        self._free: list[np.ndarray] = []  # idle longest first
        self._in_use = self._idle = self._peak = 0  # bytes

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
        """A C-contiguous, 64-byte aligned array of arbitrary content, like np.empty.

        Raises MemoryError, with the shape, the dtype and the bytes, if there is not enough memory.
        """
        shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < SMALLEST or dtype.kind not in "biufc":
            return np.empty(shape, dtype)
        try:
            block = self._take(nbytes)
        except MemoryError:
            raise MemoryError(f"no memory for a result of shape {shape} {dtype}: {nbytes:,} bytes") from None
        return np.asarray(_Lease(block, shape, dtype, self._returned.append))

    def _take(self, nbytes: int) -> np.ndarray:
        with self._lock:
            self._collect()
            block = self._best_free(nbytes)
            if block is None:
                needed = self._in_use + nbytes
                self._shrink(max(HEADROOM * max(self._peak, needed) - needed, self._always_kept))
                block = self._new(nbytes)
            self._in_use += block.nbytes
            self._peak = max(self._peak, self._in_use)
            return block

    def _collect(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._free.append(block)
            self._idle += block.nbytes
            self._in_use -= block.nbytes

    def _best_free(self, nbytes: int) -> np.ndarray | None:
        """Take out the smallest free block that fits. Of equal blocks, the one used last may still be in the cache."""
        best, best_size = None, int(nbytes * LARGER) + 1
        for i in reversed(range(len(self._free))):
            size = self._free[i].nbytes
            if nbytes <= size < best_size:
                best, best_size = i, size
                if size == nbytes:
                    break
        if best is None:
            return None
        self._idle -= best_size
        return self._free.pop(best)

    def _shrink(self, limit: float) -> None:
        """Give free blocks back to the system until at most `limit` bytes are free."""
        while self._idle > limit:
            self._idle -= self._free.pop(0).nbytes

    def _new(self, nbytes: int) -> np.ndarray:
        try:
            return _from_system(nbytes)
        except MemoryError:
            self._shrink(0)
            return _from_system(nbytes)

    def release(self) -> None:
        """Give all free blocks back to the system, and reset the peak to the bytes in use."""
        with self._lock:
            self._collect()
            self._shrink(0)
            self._peak = self._in_use

    def usage(self) -> Usage:
        """The bytes that the pool holds now."""
        with self._lock:
            self._collect()
            return Usage(self._in_use, self._idle, self._peak)


class NamedMemoryError(MemoryError):
    """A MemoryError that names the operation which had no memory."""


def named_error(op: str, error: MemoryError) -> NamedMemoryError:
    """The error with the name of the operation in front; unchanged if an operation inside that one has named itself."""
    return error if isinstance(error, NamedMemoryError) else NamedMemoryError(f"{op}: {str(error) or 'no memory'}")


_pool = Pool()
empty, release, usage = _pool.empty, _pool.release, _pool.usage
if hasattr(os, "register_at_fork"):  # another thread may hold the lock while this one forks: the child starts anew
    os.register_at_fork(after_in_child=_pool.__init__)
