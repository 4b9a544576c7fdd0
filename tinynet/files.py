"""Files that are either whole or not there, and the folder for what tinynet can make or fetch again."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """The environment variable TINYNET_CACHE, or else `tinynet` in the user's cache folder. It may not exist yet."""
    chosen = os.environ.get("TINYNET_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("tinynet"))


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes `path` when the block ends well and is deleted if not.

    A reader sees the old file or the new one, never half of one, and a full disk or a killed process leaves
    the old file alone. The temporary file lies in the same folder, because a rename is one step only within a
    file system, and keeps the suffix, because savers choose the format by it. A folder that is missing is
    made. Raises OSError, with `path` as its file name, where it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # "File exists" is no help to who looks for a folder
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from error
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary), temporary):  # a full disk names no file, and nobody knows ours
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
