"""Runs a learner's CUDA kernels on the emulator, with every access to memory checked."""

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
from .exercise import Failure

THREADS = 32  # in a block


def missing() -> str | None:
    """Why there is no emulator, in a sentence; None where there is one."""
    try:
        compiler()
    except CompilerMissing as error:
        return str(error)
    return None


def run_emulated(functions: Mapping[str, Any], kernel: str, threads: int, *arguments: Any) -> Failure | None:
    """Run a kernel of the learner's SOURCE with so many threads, rounded up to whole blocks; it changes arrays.

    Returns a Failure for what cannot be compiled and for what the checks find, else None. Its message is the kind of
    the error and the array it concerns, which is what one mistake has in common however it is written.
    """
    code = functions["SOURCE"]
    path = _written(_first_line(functions["__file__"]) * "\n" + code, code)
    try:
        with checked(), contextlib.redirect_stderr(io.StringIO()):  # it says there what it compiles
            launch(Source(path, [{}]), kernel, blocks(threads, THREADS), THREADS, *arguments)
    except KernelError as error:
        text = str(error).replace(f"{path}:", "line ").replace(str(path), "SOURCE")
        kind = re.search(r"^([a-z ]+): line ", text, re.MULTILINE)
        array = re.search(r"`(\w+)`", text)
        what = f"{kind[1]} {array[1] if array else ''}" if kind else "does not compile"
        return Failure("KernelError", what, text)
    except (ValueError, TypeError) as error:  # of a signature that was changed
        return Failure(type(error).__name__, str(error), str(error))
    return None


def _written(text: str, code: str) -> Path:
    """The text as a `.cu` file, named by its content: what was compiled before is found again."""
    path = cache_folder() / "exercises" / f"kernel-{hashlib.sha256(text.encode()).hexdigest()[:16]}.cu"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _first_line(file: str) -> int:
    """How many lines stand above SOURCE in the learner's file, so that messages name its own lines."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        return next(i for i, line in enumerate(lines) if line.startswith("SOURCE"))
    return 0
