"""Image files in a zip archive or a folder, or a single file; `decode` turns their bytes into arrays.

Archives are not extracted: their members are read into memory one at a time. A hostile or broken file raises a
`DataError` that names it.
"""

from __future__ import annotations

import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from ..errors import DataError
from ..files import open_zip
from .decode import decode
from .pillow_images import other_kind

# Formats of microscopes' programs and slide scanners, which are not read: they are named, not left out in silence.
MICROSCOPE_SUFFIXES = (".czi", ".lsm", ".nd2", ".lif", ".oib", ".oif", ".oir", ".vsi", ".ims", ".stk", ".svs", ".ndpi")
IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".btf", ".jpg", ".jpeg", ".bmp")
# A member of an archive of more bytes is refused before it is read, and so is a file that is read whole. It is more
# than the largest image that is decoded (`limits.MAX_BYTES`); a "zip bomb" unpacks to gigabytes.
MAX_MEMBER_BYTES = 640 * 2**20
# What zipfile raises for damaged archives, also in their names, sizes and kinds of compression.
DAMAGES = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError, UnicodeError, MemoryError)


class ImageFiles:
    """The image files of a zip archive, of a folder (with everything below it), or one single file.

    `names` lists them with forward slashes, sorted, relative to the archive or folder; `other_names` lists the other
    files, such as texts beside the images. Use as a context manager.

    Raises `DataError` if `path` does not exist, is a broken or truncated archive or another kind of file, or is an
    archive with a name that leads out of it (`../x`, `/x`, `C:\\x`): such an archive is malicious, so none of it is
    read; and for an archive with two files of one name.
    """

    def __init__(self, path: str | Path):
        self.path = self._root = Path(path)
        self._zip: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        if self.path.is_dir():
            found = [p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()]
        elif self.path.suffix.lower() in (*IMAGE_SUFFIXES, *MICROSCOPE_SUFFIXES) and self.path.is_file():
            self._root = self.path.parent
            found = [self.path.name]
        elif self.path.is_file():
            found = self._open_zip()
        else:
            raise DataError(f"{self.path}: no such file or folder; need a zip archive, a folder or an image file")
        self.names = sorted(name for name in found if _is_image_name(name))
        self.other_names = sorted({*found} - {*self.names})

    def _open_zip(self) -> list[str]:
        kinds = ", ".join(IMAGE_SUFFIXES)
        try:
            with self.path.open("rb") as file:
                kind = other_kind(file.read(16))
            if kind:
                raise DataError(
                    f"{self.path}: a {kind} file, which is not read; need a zip archive or an image ({kinds})"
                )
            self._zip = open_zip(self.path)
        except DAMAGES as error:
            if self.path.suffix.lower() != ".zip":
                raise DataError(f"{self.path}: neither an image by its name ({kinds}) nor a zip archive") from error
            raise DataError(f"{self.path}: not a zip archive, or a truncated one ({error})") from error
        for member in self._zip.infolist():
            name = member.filename.replace("\\", "/")  # some programs for Windows write its separator
            if ".." in name.split("/") or re.match(r"/|[A-Za-z]:/", name):
                self.close()
                raise DataError(f"{self.path}: refused, because the name {member.filename!r} leads out of the archive")
            if name in self._members and _is_image_name(name):
                self.close()
                raise DataError(f"{self.path}: damaged: it holds two files of the name {name!r}")
            self._members[name] = member
        return list(self._members)

    def check_names(self) -> None:
        """Raise `DataError` if an archive's table of contents and its members disagree on a name.

        A damaged name has another suffix or another folder, so that its file would be left out without a word.
        """
        for name, member in self._members.items():
            with self._reading(name), self._zip.open(member):  # type: ignore[union-attr]
                pass

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises `DataError` if it is damaged, encrypted or too large."""
        member, file = self._members.get(name), self._root / name
        with self._reading(name):
            size = member.file_size if member else file.stat().st_size
            if size > MAX_MEMBER_BYTES:
                raise DataError(f"{self.where(name)}: {size:,} bytes unpacked; at most {MAX_MEMBER_BYTES:,} are read")
            return self._zip.read(member) if self._zip and member else file.read_bytes()

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """One file, opened to read parts of it: in a folder it may have any size. Raises `DataError` as `read` does."""
        if self._zip is not None:
            yield io.BytesIO(self.read(name))
            return
        with self._reading(name):
            file = (self._root / name).open("rb")
        with file:
            yield file

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except DAMAGES as error:
            problem = "cannot be read" if self._zip is None else "damaged inside the archive"
            raise DataError(f"{self.where(name)}: {problem} ({error})") from error

    def read_array(self, name: str) -> np.ndarray:
        """One image as `decode` gives it: (H, W) or (H, W, 3) with its own dtype."""
        return decode(self.read(name), self.where(name))

    def where(self, name: str) -> str:
        """The name of a file in messages."""
        return str(self._root / name)

    def close(self) -> None:
        """Close the archive. The end of a `with` block does it too."""
        if self._zip is not None:
            self._zip.close()

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(self, *exc) -> None:
        self.close()


def _is_image_name(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden
