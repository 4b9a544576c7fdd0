"""Compiled files in the cache that are used only if they are what was written: damaged machine code may do anything."""

from __future__ import annotations

import contextlib
import glob
import hashlib
from pathlib import Path

from ..files import atomic_path

DIGEST_LENGTH = 16  # hexadecimal digits of the digest in the file's name


def with_digest(folder: Path, stem: str, suffix: str, content: bytes) -> Path:
    """Write a file whose name ends with a digest of its content, and return its path.

    Raises OSError as `atomic_path` does.
    """
    path = folder / f"{stem}-{_digest(content)}{suffix}"
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def undamaged(folder: Path, stem: str, suffix: str) -> Path | None:
    """The file that `with_digest` has written, or None if it is not there or has changed since."""
    for path in folder.glob(f"{glob.escape(stem)}-{'?' * DIGEST_LENGTH}{suffix}"):
        with contextlib.suppress(OSError):
            if path.stem.endswith(_digest(path.read_bytes())):
                return path
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
