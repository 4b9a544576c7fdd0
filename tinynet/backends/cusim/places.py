"""Where in a `.cu` file something happened: lines and shared arrays by their place in the compiled library."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cuda.source import PACKAGE, Source


class Spot(ctypes.Structure):
    """The same as in findings.h."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("line", ctypes.c_int),
        ("code_offset", ctypes.c_uint64),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
    )


@dataclass(frozen=True)
class Place:
    """A line of a file that a kernel was compiled from."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else "an unknown line (is addr2line missing?)"


class Places:
    """Lines of the source by the offsets of machine code in a library. Without `addr2line` all are unknown."""

    def __init__(self, library: Path, offsets: Iterable[int]) -> None:
        self._known = _lines_of_code(library, sorted(set(offsets)))

    def of(self, spot: Spot) -> Place:
        """The place of a spot."""
        if spot.file:
            return Place(_plain(spot.file.decode()), spot.line)
        return self.of_code(spot.code_offset)

    def of_code(self, offset: int) -> Place:
        """The place of an offset in the machine code."""
        return self._known.get(offset, Place("", 0))


def _lines_of_code(library: Path, offsets: Sequence[int]) -> dict[int, Place]:
    tool = shutil.which("addr2line")
    if tool is None or not offsets:
        return {}
    command = [tool, "-a", "-i", "-e", str(library), *map(hex, offsets)]
    lines = subprocess.run(command, text=True, capture_output=True).stdout.splitlines()
    known: dict[int, Place] = {}
    offset = 0
    for line in lines:  # each address, then the line of its code, then the lines from which this code was inlined
        if line.startswith("0x"):
            offset = int(line, 16)
            continue
        file, _, number = line.split(" (")[0].rpartition(":")
        if offset not in known and number.isdecimal() and not file.endswith(("language.h", "runtime.h")):
            known[offset] = Place(_plain(file), int(number))
    return known


def _plain(file: str) -> str:
    return file.removeprefix("./")


def line_of_text(source: Source, place: Place) -> str:
    """The text of the line, without the spaces around it; "" if the file cannot be read."""
    try:
        text = source.text if place.file == source.name else (PACKAGE.parent / place.file).read_text(encoding="utf-8")
        return text.splitlines()[place.line - 1].strip()
    except (OSError, IndexError):
        return ""


@functools.cache
def variables(library: Path, section: str) -> list[tuple[int, int, str]]:
    """Start, size in bytes and qualified name of the variables in a section of the library.

    None are found without the tool `nm`.
    """
    tool = shutil.which("nm")
    if tool is None:
        return []
    listed = subprocess.run([tool, "-C", "-S", "--defined-only", str(library)], text=True, capture_output=True).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    starts = [int(row[0], 16) for row in rows if row[-1] == f"__start_{section}"]
    ends = [int(row[0], 16) for row in rows if row[-1] == f"__stop_{section}"]
    if not starts or not ends:
        return []
    sized = [(int(row[0], 16), int(row[1], 16), row[3]) for row in rows if len(row) == 4]
    return [(at - starts[0], size, name) for at, size, name in sized if size and starts[0] <= at < ends[0]]
