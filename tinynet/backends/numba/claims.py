"""Claims: of several processes that need a compiled function, one compiles it, and the others wait for its file.

Processes often begin with an empty cache together: the ranks of a distributed training, two scripts, or a process and
the helpers that it starts (helpers.py). A file of locks lies in the cache folder. Each function owns one byte of it,
and a process locks that byte while it looks for the function in the cache and compiles it. No two processes wait for
each other, because a function waits only for those that it calls. The system frees the locks of a process that ends,
however it ends.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: every process compiles for itself
    fcntl = None  # type: ignore[assignment]

CAN_LOCK = fcntl is not None


@contextlib.contextmanager
def claimed(folder: Path, function: str) -> Iterator[None]:
    """Inside `with`, no other process with the same cache folder is inside for the same function.

    function: text that identifies it. Where files cannot be locked, nothing is.
    """
    byte = int.from_bytes(hashlib.sha256(function.encode()).digest()[:7], "big")
    file = _locks(folder, os.getpid())
    is_locked = file is not None and _try(fcntl.LOCK_EX, file, byte)
    try:
        yield
    finally:
        if is_locked:
            _try(fcntl.LOCK_UN, file, byte)


def _try(what: int, file: int, byte: int) -> bool:
    """Lock or unlock a byte, which may lie beyond the end of the file; False where that is not possible."""
    try:
        fcntl.lockf(file, what, 1, byte)
    except OSError:  # some network file systems have no locks
        return False
    return True


@functools.lru_cache(maxsize=1)  # a forked process opens the file anew
def _locks(folder: Path, process: int) -> int | None:
    """The open file of locks. It stays open: to close it would give all locks back."""
    if fcntl is None:
        return None
    try:
        return os.open(folder / "locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
