"""Files that are either whole or not there."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes `path` when the block ends well and is deleted if not.

    A reader sees the old file or the new one, never half of one, and a full disk or a killed process leaves
    the old file alone. The temporary file lies in the same folder, because a rename is one step only within a
    file system, and keeps the suffix, because savers choose the format by it. A folder that is missing is
    made. Raises OSError where the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
