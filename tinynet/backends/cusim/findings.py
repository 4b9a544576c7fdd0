"""The message of a KernelError: what the emulator has found wrong in a kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import BackendError
from ..cuda.source import Source
from .places import Places, Spot, line_of_text, variables

NOWHERE, STATIC_SHARED, DYNAMIC_SHARED, DEVICE_VARIABLE = -1, -2, -3, -4
# The section of the library in which such variables lie, and what they are called.
SECTIONS = {STATIC_SHARED: ("cusim_shared", "the shared array"), DEVICE_VARIABLE: ("cusim_device", "the variable")}
WARP = 32


class KernelError(BackendError):
    """A kernel does what a GPU does not promise to do right, or cannot be compiled.

    The message names the line of the `.cu` file, the threads and the array.
    """


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
    """A kernel that was run: its file, its name, the arrays it may access with their names, and its library."""

    source: Source
    kernel: str
    arrays: Sequence[tuple[str, np.ndarray]]
    library: Path


def describe(findings: Sequence[Finding], launched: Launched) -> str:
    """The message of a KernelError."""
    spots = [spot for f in findings for spot in (f.spot, f.other)]
    places = Places(launched.library, [spot.code_offset for spot in spots if not spot.file and spot.code_offset])
    tellers = {}
    for finding in findings:  # the same fault of several accesses in one line is told once
        key = (finding.kind, places.of(finding.spot), places.of(finding.other))
        tellers.setdefault(key, _Teller(finding, launched, places))
    told = "\n\n".join(teller.tell() for teller in tellers.values())
    return f"the kernel {launched.kernel} of {launched.source.name} goes wrong\n\n{told}"


# ---------------------------------------------------------------------------------------- sentences
# For each kind of finding: what the thread did, what the other thread did (then its place follows), the usual cause.
# f is the _Teller of the finding.
SENTENCES = {
    "race": ("{f.verb} {f.element}; before or after that, as chance has it,", "{f.other_verb} it at", "{f.race_cause}"),
    "uninitialized": (
        "reads {f.element}, which no thread of the block has written",
        "",
        "On a GPU, shared memory begins with what another block has left there.",
    ),
    "out of bounds": ("{f.verb} {f.bytes} bytes{f.outside}", "", "{f.outside_cause}"),
    "misaligned": (
        "{f.verb} {f.bytes} bytes at once, {f.offset} bytes from the start of {f.name}",
        "",
        "A GPU stops at that: the address must be a multiple of {f.bytes}.",
    ),
    "index": ("takes the index {f.number}, which the array does not have", "", "Is a loop too long?"),
    "overflow": (
        "gets a result of {f.text} that does not fit the signed type",
        "",
        "Offsets in arrays belong in size_t.",
    ),
    "division": ("divides by {f.number}", "", "A GPU goes on with a meaningless number."),
    "crash": (
        "accesses the address {f.number:#x}, where there is no memory",
        "",
        "Run it inside `with tinynet.cusim.checked():`, which says which array it has left.",
    ),
    "absent lanes": (
        "waits for lanes of its warp that have ended or wait elsewhere: {f.lanes}",
        "waits at",
        "All lanes of the mask must come: is the operation in a branch, or behind a return?",
    ),
    "lanes disagree": (
        "waits with the mask {f.mask:#010x}",
        "with {f.other_mask:#010x} at",
        "The lanes of a mask must meet in the same operation, with the same mask.",
    ),
    "not in mask": (
        "waits with the mask {f.number:#010x}, which does not contain its own lane",
        "",
        "A lane must be in the mask of the lanes that it meets.",
    ),
    "lane not there": (
        "asks for the value of lane {f.number}, which takes no part",
        "",
        "Is the number of threads not a multiple of 32, or the mask too small?",
    ),
    "different barriers": ("waits here", "waits at", "All threads of a block must come to the same __syncthreads()."),
    "barrier not reached": (
        "waits for {f.number} threads of the block that have ended, such as threadIdx=({f.other_thread})",
        "",
        "Let all threads reach the barrier: put the test of the bounds around the work, and return later.",
    ),
    "no kernel": (
        "has nothing to run",
        "",
        "The kernel is not in this variant of the file: look at #if and the macros.",
    ),
    "stack overflow": (
        "needs more local memory than the emulator gives a thread",
        "",
        "Are local arrays too large?",
    ),
}
RACE_CAUSES = (
    "Lanes of a warp do not run in step: __syncwarp() or __syncthreads() belongs between the two.",
    "Is a __syncthreads() missing between the two, or is an index wrong?",
    "Blocks run in any order and at the same time. Let each block write to a place of its own, or use an atomic\n"
    "  operation. The last block may read what the others wrote if these called __threadfence() and then\n"
    "  counted themselves with an atomic operation.",
)


class _Teller:
    """One finding as a sentence; its attributes are what SENTENCES refer to."""

    def __init__(self, finding: Finding, launched: Launched, places: Places) -> None:
        self.finding, self.launched, self.places = finding, launched, places
        self.number, self.bytes, self.text = finding.number, finding.bytes, finding.text.decode()
        self.verb = _verb(finding.is_write, finding.is_atomic)
        self.other_verb = _verb(finding.other_is_write, finding.other_is_atomic)
        self.mask, self.other_mask = finding.number >> 32 & 0xFFFFFFFF, finding.number & 0xFFFFFFFF
        self.other_thread = _three(finding.other.thread)
        self.name, self.array, self.offset = self._memory()

    def tell(self) -> str:
        """What is wrong, where, which threads did it, and the usual cause."""
        f = self.finding
        kind = f.kind.decode()
        what, others, cause = (part.format(f=self) for part in SENTENCES[kind])
        lines = [f"{kind}: {self._quoted(f.spot)}", f"{_thread(f.spot)} {what}"]
        if others and f.has_other:
            lines.append(f"{_thread(f.other)} {others} {self._quoted(f.other)}")
        return "\n  ".join([*lines, cause])

    def _quoted(self, spot: Spot) -> str:
        """The place of a spot, and the text of its line."""
        place = self.places.of(spot)
        text = line_of_text(self.launched.source, place)
        return f"{place}\n    | {text}" if text else str(place)

    def _memory(self) -> tuple[str, np.ndarray | None, int]:
        """The name of the array, the array if it is one of the host's, and how many bytes into it."""
        buffer, offset = self.finding.buffer, self.finding.offset
        if buffer >= 0:
            name, array = self.launched.arrays[buffer]
            return f"`{name}`", array, offset
        if buffer in SECTIONS:
            section, what = SECTIONS[buffer]
            for start, size, name in variables(self.launched.library, section):
                if start <= offset < start + size:
                    return f"{what} `{name.rpartition('::')[2]}`", None, offset - start
            return "shared memory" if buffer == STATIC_SHARED else "a __device__ variable", None, offset
        return "dynamic shared memory" if buffer == DYNAMIC_SHARED else "memory of no array", None, offset

    @property
    def element(self) -> str:
        """The array and the index in it."""
        if self.array is None:
            return f"byte {self.offset} of {self.name}"
        index = np.unravel_index(self.offset // self.array.itemsize, self.array.shape or (1,))
        return f"{self.name}[{', '.join(map(str, index))}]"

    @property
    def race_cause(self) -> str:
        return RACE_CAUSES[self.number]

    @property
    def outside(self) -> str:
        """Where an access outside of all arrays lies, seen from the nearest array."""
        if self.array is None:
            return f" in {self.name}, {self.offset:+} bytes from its start"
        beyond = self.offset + self.bytes - self.array.nbytes
        where = f"{-self.offset} bytes before the start" if self.offset < 0 else f"{beyond} bytes past the end"
        element, a = self.offset // self.array.itemsize, self.array
        return f", {where} of {self.name}: element {element} of an array {a.shape} of {a.size} {a.dtype}"

    @property
    def outside_cause(self) -> str:
        if self.array is None:
            return "Is a pointer wrong?"
        return "Is there a test like `if (i < n)`? A grid is rounded up to whole blocks."

    @property
    def lanes(self) -> str:
        """The lanes of a mask, neighbors as "16 to 31"."""
        lanes = [lane for lane in range(WARP) if self.number >> lane & 1]
        firsts = [lane for lane in lanes if lane - 1 not in lanes]
        lasts = [lane for lane in lanes if lane + 1 not in lanes]
        return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(firsts, lasts))


def _thread(spot: Spot) -> str:
    return f"blockIdx=({_three(spot.block)}) threadIdx=({_three(spot.thread)})"


def _three(numbers: Sequence[int]) -> str:
    return ",".join(str(n) for n in numbers)


def _verb(is_write: bool, is_atomic: bool) -> str:
    return "atomically changes" if is_atomic else "writes" if is_write else "reads"
