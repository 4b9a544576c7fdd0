"""Runs a learner's CUDA kernels on the emulator, with every memory access checked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.cusim import CompilerMissing, KernelError, checked, compiler
from ...backends.launch import blocks, launch
from ...files import cache_folder

THREADS = 32  # in a block


def missing() -> str | None:
    """Why there is no emulator, in a sentence; None if there is one."""
    try:
        compiler()
    except CompilerMissing as error:
        return str(error)
    return None


def run_emulated(functions: Mapping[str, Any], kernel: str, threads: int, result: str, arguments: dict) -> tuple:
    """Run a kernel of the learner's SOURCE, which fills an array. threads: rounded up to whole blocks.

    arguments: by name, in the order of the kernel's parameters; result: the array that it fills. Returns (this array,
    None), or (None, what Failure needs) if the kernel cannot be compiled or a check finds something. The message of the
    Failure is the kind of error and the array that it concerns: the same for one mistake, however it is written.
    """
    code = functions["SOURCE"]
    # As many empty lines as stand above SOURCE in the learner's file, so that messages have its line numbers.
    text = _lines_above(functions["__file__"]) * "\n" + code
    # Named by its content, so that a kernel that was compiled before is found again.
    path = cache_folder() / "exercises" / f"kernel-{hashlib.sha256(text.encode()).hexdigest()[:16]}.cu"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        with checked(), contextlib.redirect_stderr(io.StringIO()):  # the emulator prints there what it compiles
            launch(Source(path, [{}]), kernel, blocks(threads, THREADS), THREADS, *arguments.values())
    except KernelError as error:
        report = str(error).replace(f"{path}:", "line ").replace(str(path), "SOURCE")
        kind = re.search(r"^([a-z ]+): line ", report, re.MULTILINE)
        array = re.search(r"`(\w+)`", report)
        what = f"{kind[1]} {array[1] if array else ''}" if kind else "does not compile"
        thread = re.search(r"blockIdx=\((\d+),.*? threadIdx=\((\d+),", report)
        if thread and int(thread[1]) * THREADS + int(thread[2]) >= threads:
            what += " in a thread without a result"
        return None, ("KernelError", what, report)
    except (ValueError, TypeError) as error:  # the signature was changed
        return None, (type(error).__name__, str(error), str(error))
    return arguments[result], None


run_emulated.texts = ("SOURCE",)  # type: ignore[attr-defined]  # the emulator runs these, and no other code of the file


def _lines_above(file: str) -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
        return next(i for i, line in enumerate(lines) if line.startswith("SOURCE"))
    return 0
