"""A process that checks kernels: its time limit, its output, and what it says of exceptions.

`begin` prepares the process, `answer_to` runs one of the functions of checks.py and returns its answer, or Failed if it
raises an exception. If a kernel never returns or crashes, Python's `faulthandler` writes where that was.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ...backends.cuda.source import PACKAGE
from ...errors import BackendError

SECONDS = 20.0  # for one kernel in one case, without compiling
MOST_MESSAGE = 30  # lines of an error message
MOST_PRINTED = 200  # lines that kernels may print
COMPILING = "tinynet: compiling"  # how the compilers' own messages begin

clock: Clock  # of this process, set by `begin`


@dataclass(frozen=True)
class Failed:
    """The answer if a kernel cannot be checked. sentence: why, with file and line."""

    sentence: str
    right = False


def begin(folder: str, quiet: bool) -> None:
    """Prepare this process. folder: for the file in which a crash is recorded; quiet: hide messages of compilers."""
    global clock
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    sys.stdout = sys.stderr = Printed(sys.stderr, quiet)
    clock = Clock(SECONDS, Path(folder, str(os.getpid())).open("w"))  # noqa: SIM115 (open while the process lives)


def answer_to(do: Callable[[str, Any], Any], op: str, item: Any) -> Any:
    """do(op, item), or Failed if it raises an exception."""
    clock.label(str(item))
    try:
        return do(op, item)
    except (Exception, SystemExit) as error:
        return Failed(sentence(error))
    finally:
        clock.stop()
        clock.label("")


class Printed(io.TextIOBase):
    """Passes on what kernels print, up to a limit."""

    def __init__(self, stream: TextIO, quiet: bool) -> None:
        self._stream, self._quiet, self._lines, self._rest = stream, quiet, 0, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if self._quiet and line.startswith(COMPILING):
                continue
            self._lines += 1
            if self._lines <= MOST_PRINTED:
                print(line, file=self._stream, flush=True)
            elif self._lines == MOST_PRINTED + 1:
                print(f"... (more than {MOST_PRINTED} lines are not shown)", file=self._stream, flush=True)
        return len(text)


class Clock:
    """Ends the process after some seconds, unless it is started again or stopped before. Compiling does not count."""

    def __init__(self, seconds: float, trace: TextIO) -> None:
        self.seconds, self.trace = seconds, trace
        self.is_running = False
        self._knows_numba = False
        faulthandler.enable(trace)

    def label(self, text: str) -> None:
        """The first line of the trace; without a label the trace is empty."""
        self.trace.seek(0)
        self.trace.truncate()
        if text:
            print(text, file=self.trace, flush=True)

    def start(self) -> None:
        self.is_running = True
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=self.trace)
        if "numba" in sys.modules and not self._knows_numba:
            self._knows_numba = True
            _pause_while_compiling(self)

    def stop(self) -> None:
        self.is_running = False
        faulthandler.cancel_dump_traceback_later()


def _pause_while_compiling(clock: Clock) -> None:
    from numba.core import event

    class Listener(event.Listener):
        depth = 0

        def on_start(self, started: event.Event) -> None:
            self.depth += 1
            faulthandler.cancel_dump_traceback_later()

        def on_end(self, ended: event.Event) -> None:
            self.depth -= 1
            if self.depth == 0 and clock.is_running:
                clock.start()

    event.register("numba:compile", Listener())


def sentence(error: BaseException) -> str:
    """An exception, and the line of the operations' files that raised it."""
    message = "\n".join(str(error).strip().splitlines()[:MOST_MESSAGE])
    if isinstance(error, BackendError):  # from a CUDA kernel, with the line of the .cu file; or what is missing
        return message
    if type(error).__module__.startswith("numba."):  # a long account of the compilation follows
        message = message.partition("\n\nDuring: ")[0]
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if isinstance(error, SystemExit):
        what = "this ends the whole program; return a value instead"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_place(error.filename, error.lineno or 0)}\n{what}"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if PACKAGE / "ops" in Path(frame.filename).parents]
    return f"{_place(inside[-1].filename, inside[-1].lineno or 0)}\n{what}" if inside else what


def _place(filename: str, line: int) -> str:
    """'tinynet/ops/dice/reference.py:12: `the text of the line`'."""
    path = Path(filename)
    name = path.relative_to(PACKAGE.parent).as_posix() if PACKAGE in path.parents else filename
    with contextlib.suppress(OSError, IndexError):
        return f"{name}:{line}: `{path.read_text(encoding='utf-8').splitlines()[line - 1].strip()}`"
    return f"{name}:{line}"
