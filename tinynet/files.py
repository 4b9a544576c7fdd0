"""Files that are either whole or not there, locks, archives of arrays, and the folder for what can be fetched again."""

from __future__ import annotations

import errno
import io
import os
import sys
import uuid
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import numpy as np


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
    temporary = path.with_name(f".{path.stem[:40]}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary), temporary):  # a full disk names no file, and nobody knows ours
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def table_file(path: str | os.PathLike) -> Iterator[TextIO]:
    """An open file for the `csv` module, at `atomic_path(path)`. UTF-8; file names in any encoding can be written."""
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        yield file


@contextmanager
def locked(path: str | os.PathLike, wait: bool = True) -> Iterator[BinaryIO]:
    """Hold the lock of the file `path`, which is made if it is missing.

    wait: wait until the lock is free (on Windows 10 seconds); otherwise raise BlockingIOError if it is not. The
    operating system ends the lock together with the process, so a killed process leaves none. Gives the open file.
    """
    with open(path, "a+b", buffering=0) as file:
        try:
            _lock(file, wait)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # this file system has no locks
                raise
        yield file


def _lock(file: BinaryIO, wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**30)  # a locked byte cannot be read: lock one that is beyond the contents
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def most_unpacked(path: str | os.PathLike) -> int:
    """The number of bytes that a compressed file may unpack to, so that a malicious one cannot fill the memory.

    Real data shrink to a fifth at most. Data of a test may shrink to a thousandth, but they are small.
    """
    return max(2**24, 100 * os.path.getsize(path))


def open_zip(path: str | os.PathLike) -> zipfile.ZipFile:
    """A zip archive. Raises as `zipfile.ZipFile`, and BadZipFile if entries are missing, which it does not notice."""
    archive = zipfile.ZipFile(path)
    file = cast(BinaryIO, archive.fp)
    file.seek(-22 - len(archive.comment), os.SEEK_END)
    end = file.read(22)
    entries, found = int.from_bytes(end[10:12], "little"), len(archive.infolist())
    if end[:4] == b"PK\5\6" and entries not in (0xFFFF, found % 2**16):  # 0xFFFF: the number stands elsewhere
        archive.close()
        raise zipfile.BadZipFile(f"its table of contents has {found} of {entries} entries")
    return archive


def read_npz(path: str | os.PathLike, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz archive by name: all, or those in `names` that the archive holds. Pickles are refused.

    Raises OSError if the file cannot be read, and ValueError with the reason if it is damaged, unpacks to more than
    `most_unpacked`, or holds something else than plain arrays.
    """
    try:
        with open_zip(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            chosen = {name: member for name, member in members.items() if names is None or name in names}
            size, most = sum(member.file_size for member in chosen.values()), most_unpacked(path)
            if size > most:
                raise ValueError(f"it unpacks to {size:,} bytes; at most {most:,} are accepted for its size")
            return {name: _parse_npy(archive, member) for name, member in chosen.items()}
    except Exception as error:  # zipfile, the decompressors and NumPy raise errors of many kinds for damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(str(error) or type(error).__name__) from error


def _parse_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, parsed from memory after its checksum was compared.

    `np.load` parses while it reads. If one bit of the header's length is wrong, it reads shifted values, stops before
    the end of the member, and never compares the checksum.
    """
    stream = io.BytesIO(archive.read(member))
    array = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.read(1) or stream.tell() != member.file_size:
        raise ValueError(f"{member.filename} does not end where its array ends")
    return array
