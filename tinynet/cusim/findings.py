"""What the emulator has found wrong in a kernel, in words."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

from ..cuda.source import Source


class KernelError(RuntimeError):
    """A kernel does something that a GPU does not promise to do right, or cannot be compiled. The message says what,
    with the line of the `.cu` file, the threads and the array."""


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


def describe(
    findings: Sequence[Finding], source: Source, kernel: str, names: Sequence[str], library: Path
) -> str:
    """The message of a KernelError."""
    return f"{kernel}:\n" + "\n".join(
        f"{f.kind.decode()}: {f.spot.file.decode() if f.spot.file else hex(f.spot.code_offset)}:{f.spot.line}, "
        f"blockIdx={tuple(f.spot.block)}, threadIdx={tuple(f.spot.thread)}"
        for f in findings
    )
