"""What the emulator has found wrong in a kernel, in words."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import BackendError
from ..cuda.source import PACKAGE, Source

NOWHERE, STATIC_SHARED, DYNAMIC_SHARED = -1, -2, -3
WARP = 32


class KernelError(BackendError):
    """A kernel does what a GPU does not promise to do right, or cannot be compiled.

    The message names the line of the `.cu` file, the threads and the array.
    """


class Spot(ctypes.Structure):
    """The same as in findings.h."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("line", ctypes.c_int),
        ("code_offset", ctypes.c_uint64),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
    )


class Finding(ctypes.Structure):
    """The same as in findings.h."""

    _fields_ = (
        ("kind", ctypes.c_char_p),
        ("spot", Spot),
        ("other", Spot),
        ("has_other", ctypes.c_int),
        ("buffer", ctypes.c_int),
        ("offset", ctypes.c_int64),
        ("bytes", ctypes.c_int),
        ("is_write", ctypes.c_int),
        ("is_atomic", ctypes.c_int),
        ("other_is_write", ctypes.c_int),
        ("other_is_atomic", ctypes.c_int),
        ("number", ctypes.c_int64),
        ("text", ctypes.c_char_p),
    )


@dataclass(frozen=True)
class Launched:
    """A kernel that was run: its file, its name, the arrays it may touch with their names, and where it was built."""

    source: Source
    kernel: str
    arrays: Sequence[tuple[str, np.ndarray]]
    library: Path


def describe(findings: Sequence[Finding], launched: Launched) -> str:
    """The message of a KernelError."""
    spots = [spot for f in findings for spot in (f.spot, f.other)]
    places = Places(launched.library, [spot.code_offset for spot in spots if not spot.file and spot.code_offset])
    tellers = {}
    for finding in findings:  # several accesses of one line may be at fault in the same way: once is enough
        key = (finding.kind, places.of(finding.spot), places.of(finding.other))
        tellers.setdefault(key, _Teller(finding, launched, places))
    told = "\n\n".join(teller.tell() for teller in tellers.values())
    return f"the kernel {launched.kernel} of {launched.source.name} goes wrong\n\n{told}"


# ---------------------------------------------------------------------------------------- places
@dataclass(frozen=True)
class Place:
    """A line of a file that a kernel was compiled from."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else "a line that could not be found out (is addr2line missing?)"


class Places:
    """Lines of the source by the offsets of machine code in a library. Where `addr2line` is missing, none is known."""

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
    for line in lines:  # each address, then the line of the code there, and those from which it was inlined
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
    """The line itself, without the spaces around it; "" where it is not to be had."""
    try:
        text = source.text if place.file == source.name else (PACKAGE.parent / place.file).read_text(encoding="utf-8")
        return text.splitlines()[place.line - 1].strip()
    except (OSError, IndexError):
        return ""


@functools.cache
def shared_arrays(library: Path) -> list[tuple[int, int, str]]:
    """Start, size in bytes and name of the arrays of static shared memory, where the tool `nm` is there to say so."""
    tool = shutil.which("nm")
    if tool is None:
        return []
    listed = subprocess.run([tool, "-C", "-S", "--defined-only", str(library)], text=True, capture_output=True).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    starts = [int(row[0], 16) for row in rows if row[-1] == "__start_cusim_shared"]
    ends = [int(row[0], 16) for row in rows if row[-1] == "__stop_cusim_shared"]
    if not starts or not ends:
        return []
    sized = [(int(row[0], 16), int(row[1], 16), row[3].rpartition("::")[2]) for row in rows if len(row) == 4]
    return [(at - starts[0], size, name) for at, size, name in sized if size and starts[0] <= at < ends[0]]


# ---------------------------------------------------------------------------------------- words
class _Teller:
    """Puts one finding into words."""

    def __init__(self, finding: Finding, launched: Launched, places: Places) -> None:
        self.finding = finding
        self.launched = launched
        self.places = places

    def tell(self) -> str:
        """What, where, who, and what usually is the cause."""
        kind = self.finding.kind.decode()
        what, others, cause = getattr(self, "_" + kind.replace(" ", "_"))()
        lines = [f"{kind}: {self._quoted(self.finding.spot)}", f"{_thread(self.finding.spot)} {what}"]
        if others:
            lines.append(f"{_thread(self.finding.other)} {others} {self._quoted(self.finding.other)}")
        return "\n  ".join([*lines, cause])

    def _quoted(self, spot: Spot) -> str:
        """The place of a spot, and the line that stands there."""
        place = self.places.of(spot)
        text = line_of_text(self.launched.source, place)
        return f"{place}\n    | {text}" if text else str(place)

    # ---- parts of sentences
    def memory(self) -> tuple[str, np.ndarray | None, int]:
        """The name of the array in question, the array if it is one of the host's, and how many bytes into it."""
        buffer, offset = self.finding.buffer, self.finding.offset
        if buffer >= 0:
            name, array = self.launched.arrays[buffer]
            return f"`{name}`", array, offset
        if buffer == STATIC_SHARED:
            for start, size, name in shared_arrays(self.launched.library):
                if start <= offset < start + size:
                    return f"the shared array `{name}`", None, offset - start
            return "shared memory", None, offset
        return "dynamic shared memory" if buffer == DYNAMIC_SHARED else "memory of no array", None, offset

    def element(self) -> str:
        """The array and the index in it."""
        name, array, offset = self.memory()
        if array is None:
            return f"byte {offset} of {name}"
        index = np.unravel_index(offset // array.itemsize, array.shape or (1,))
        return f"{name}[{', '.join(map(str, index))}]"

    # ---- the kinds of findings: what this thread did, what another did at its place, what usually is the cause
    def _race(self) -> tuple[str, str, str]:
        f = self.finding
        causes = [
            "Lanes of a warp do not run in step: __syncwarp() or __syncthreads() belongs between the two.",
            "Is a __syncthreads() missing between the two, or is an index wrong?",
            "Blocks run in any order and at the same time. Let each write to a place of its own, or use an atomic\n"
            "  operation. The last block may read what the others wrote if these called __threadfence() and then\n"
            "  counted themselves with an atomic operation.",
        ]
        mine = f"{_verb(f.is_write, f.is_atomic)} {self.element()}; before or after that, as chance has it,"
        return mine, f"{_verb(f.other_is_write, f.other_is_atomic)} it at", causes[f.number]

    def _uninitialized(self) -> tuple[str, str, str]:
        what = f"reads {self.element()}, which no thread of the block has written"
        return what, "", "On a GPU, shared memory begins with what another block has left there."

    def _out_of_bounds(self) -> tuple[str, str, str]:
        f = self.finding
        name, array, _ = self.memory()
        did = f"{_verb(f.is_write, f.is_atomic)} {f.bytes} bytes"
        if array is None:
            return f"{did} in {name}, {f.offset:+} bytes from its start", "", "Is a pointer wrong?"
        beyond = f.offset + f.bytes - array.nbytes
        where = f"{-f.offset} bytes before the start" if f.offset < 0 else f"{beyond} bytes past the end"
        number = f.offset // array.itemsize
        what = f"{did}, {where} of {name}: element {number} of an array {array.shape} of {array.size} {array.dtype}"
        return what, "", "Is there a test like `if (i < n)`? A grid is rounded up to whole blocks."

    def _misaligned(self) -> tuple[str, str, str]:
        f = self.finding
        name, _, offset = self.memory()
        what = f"{_verb(f.is_write, f.is_atomic)} {f.bytes} bytes at once, {offset} bytes from the start of {name}"
        return what, "", f"A GPU stops at that: the address must be a multiple of {f.bytes}."

    def _index(self) -> tuple[str, str, str]:
        return f"takes the index {self.finding.number}, which the array does not have", "", "Is a loop too long?"

    def _overflow(self) -> tuple[str, str, str]:
        what = f"gets a result of {self.finding.text.decode()} that does not fit the signed type"
        return what, "", "Offsets in arrays belong in size_t."

    def _division(self) -> tuple[str, str, str]:
        return f"divides by {self.finding.number}", "", "A GPU goes on with a number that means nothing."

    def _crash(self) -> tuple[str, str, str]:
        what = f"touches the address {self.finding.number:#x}, where there is no memory"
        return what, "", "Run it inside `with tinynet.backends.cusim.checked():`, which says which array it has left."

    def _absent_lanes(self) -> tuple[str, str, str]:
        what = f"waits for lanes of its warp that have ended or wait elsewhere: {_lanes(self.finding.number)}"
        elsewhere = "waits at" if self.finding.has_other else ""
        return what, elsewhere, "All lanes of the mask must come: is the operation in a branch, or behind a return?"

    def _lanes_disagree(self) -> tuple[str, str, str]:
        mine, others = self.finding.number >> 32 & 0xFFFFFFFF, self.finding.number & 0xFFFFFFFF
        cause = "The lanes of a mask must meet in the same operation, with the same mask."
        return f"waits with the mask {mine:#010x}", f"with {others:#010x} at", cause

    def _not_in_mask(self) -> tuple[str, str, str]:
        what = f"waits with the mask {self.finding.number:#010x}, in which its own lane is not"
        return what, "", "A lane must name itself among those that it meets."

    def _lane_not_there(self) -> tuple[str, str, str]:
        what = f"asks for the value of lane {self.finding.number}, which takes no part"
        return what, "", "Is the number of threads no multiple of 32, or the mask too small?"

    def _different_barriers(self) -> tuple[str, str, str]:
        return "waits here", "waits at", "All threads of a block must come to the same __syncthreads()."

    def _barrier_not_reached(self) -> tuple[str, str, str]:
        what = (
            f"waits for {self.finding.number} threads of the block that have ended, such as threadIdx="
            f"({_three(self.finding.other.thread)})"
        )
        cause = "Let all threads go to the barrier: put the test of the bounds around the work, and return later."
        return what, "", cause

    def _no_kernel(self) -> tuple[str, str, str]:
        return "has nothing to run", "", "The kernel is not in this variant of the file: look at #if and the macros."

    def _stack_overflow(self) -> tuple[str, str, str]:
        return "needs more local memory than the emulator gives a thread", "", "Are local arrays too large?"


def _thread(spot: Spot) -> str:
    return f"blockIdx=({_three(spot.block)}) threadIdx=({_three(spot.thread)})"


def _three(numbers: Sequence[int]) -> str:
    return ",".join(str(n) for n in numbers)


def _verb(is_write: bool, is_atomic: bool) -> str:
    return "atomically changes" if is_atomic else "writes" if is_write else "reads"


def _lanes(mask: int) -> str:
    """The lanes of a mask, neighbours as "16 to 31"."""
    lanes = [lane for lane in range(WARP) if mask >> lane & 1]
    firsts = [lane for lane in lanes if lane - 1 not in lanes]
    lasts = [lane for lane in lanes if lane + 1 not in lanes]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(firsts, lasts))
