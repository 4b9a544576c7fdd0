"""Runs the check of a file. The learner's code runs in a process of its own, which returns numbers; this one compares.

An endless loop is ended after a time limit and its line is named; so are a flood of prints, an exit() and a crash. The
learner's file stays unchanged.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...files import atomic_path
from .child import Task
from .exercise import Exercise, course_folder, exercise
from .guard import PACKAGE, Refused
from .judge import judge
from .probe import Raised
from .verdict import NOT_CHECKED, NOT_WRITTEN, Verdict
from .wire import LARGEST, MALFORMED, Tag, packed, unpacked

START_UP = 60.0  # seconds in which Python, NumPy and perhaps Numba start on a slow machine
MOST_PRINTED = 200_000  # bytes; a check that prints more is ended
SHOWN = 2000  # characters of the output that are shown
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # starts faster


def check_file(id: str, file: Path, seed: int = 0, seconds: float | None = None) -> Verdict:
    """The verdict on a learner's file. Raises ValueError for an exercise that does not exist.

    seed: of the random values in the probes. seconds: the time limit; None for the limit of the exercise.
    """
    this = exercise(id)
    if not file.exists():
        return Verdict(id, NOT_WRITTEN, f"not started: python -m tinynet exercises start {id}")
    if not file.is_file():
        return Verdict(id, NOT_CHECKED, f"{file} is not an ordinary file")
    before, path = file.read_bytes(), str(file.resolve())
    helper = f"{this.helper.__module__}:{this.helper.__name__}" if this.helper else None
    limits = (sorted(this.imports), helper, seconds or this.seconds, str(course_folder()))
    with tempfile.TemporaryDirectory(prefix="tinynet-check-", ignore_cleanup_errors=True) as folder:
        learner = Learner(Task(id, path, this.stub, this.arguments, *limits), folder)
        try:
            verdict = _verdict(this, learner, path, seed)
        finally:
            output = learner.end()
    verdict.printed = output if len(output) <= SHOWN else f"{output[:SHOWN]}\n... ({len(output)} characters)"
    if _is_changed(file, before):
        with atomic_path(file) as new:
            new.write_bytes(before)
        verdict.message += "; your code wrote into its own file, which was put back"
    return verdict


def _verdict(this: Exercise, learner: Learner, path: str, seed: int) -> Verdict:
    try:
        missing = this.missing()
        if not learner.load():
            return Verdict(this.id, NOT_WRITTEN, f"to be written: {', '.join(this.functions)}")
        return Verdict(this.id, NOT_CHECKED, missing) if missing else judge(this, learner, path, seed)
    except Refused as reason:
        return Verdict(this.id, NOT_CHECKED, str(reason))


def _is_changed(file: Path, before: bytes) -> bool:
    if not file.is_file():  # deleted, or replaced by something that must not be opened
        return True
    with file.open("rb") as now:
        return now.read(len(before) + 1) != before


@contextlib.contextmanager
def no_result_refused() -> Iterator[None]:
    """Refused in place of the exceptions that a malformed reply causes inside."""
    try:
        yield
    except MALFORMED:
        raise Refused("the process of your code sent what is no result") from None


class Learner(Mapping):
    """The functions of a learner's file, by name. They run in a process of their own (child.py), with limits.

    A call raises Raised, with the learner's exception, or Refused, with a sentence, if the check cannot go on.
    """

    def __init__(self, task: Task, folder: str) -> None:
        self._task, self._folder = task, folder
        self._names: list[str] = []
        self._emulator: Learner | None = None
        self._deadline = time.monotonic() + task.seconds + START_UP
        paths = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process: Any = subprocess.Popen(
            [sys.executable, "-u", "-m", "tinynet.learn.exercises.child"],
            cwd=folder,  # files that the code writes without a folder land here
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8:replace"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a group that `_kill` ends together
        )
        self._lines: queue.Queue[bytes] = queue.Queue(4)  # whoever sends more waits
        self._printed, self._reason = bytearray(), ""
        replies: Any = self._process.stdout
        printed: Any = self._process.stderr
        reading = ((replies, lambda: replies.readline(LARGEST), self._lines.put), (printed, printed.read1, self._note))
        self._readers = [threading.Thread(target=_pass_on, args=arguments, daemon=True) for arguments in reading]
        for reader in self._readers:
            reader.start()
        self._send(tuple(task))

    def load(self) -> bool:
        """Wait until the file is loaded; False if it is still the stub."""
        loaded = self._reply()
        with no_result_refused():
            self._names = [str(name) for names in loaded for name in names]
        return bool(loaded)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)

        def function(*arguments: Any, **parameters: Any) -> Any:
            reply = self._ask(name, arguments, parameters)
            with no_result_refused():
                returned, after = reply
                for before, now in zip(arguments, after):
                    if isinstance(before, np.ndarray) and np.shape(now) == before.shape:
                        before[...] = now
            return returned

        return function

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def run_beside(self, helper: Callable, arguments: tuple) -> Any:
        """helper(the functions, *arguments), in the learner's process.

        A helper with an attribute `texts` needs only these values of the file. It gets a process without the file.
        """
        learner = self
        if hasattr(helper, "texts"):
            if self._emulator is None:
                values = {name: str(self[name]()) for name in helper.texts}
                self._emulator = Learner(self._task._replace(values=values), self._folder)
                self._emulator.load()
            learner = self._emulator
        return learner._ask(None, arguments, {})[0]

    def _ask(self, name: str | None, arguments: tuple, parameters: Mapping[str, Any]) -> list:
        """The reply to a request: call the function of this name; without a name, the helper."""
        functions: list[Callable] = []

        def tag(value: Any) -> tuple[str, Any] | None:
            if type(value).__name__ == "Geometry":
                return "geometry", tuple(value)
            if callable(value):
                functions.append(value)
                return "function", len(functions) - 1
            return None

        self._send([name, arguments, dict(parameters)], tag)
        return self._reply(functions)

    def _reply(self, functions: Sequence[Callable] = ()) -> list:
        """The next reply. functions: those that were passed as arguments, which are called here."""
        while True:
            with no_result_refused():
                kind, *content = unpacked(self._next_line())
                if kind == "callback":
                    number, arguments = content
                    self._send(_called(functions[number], arguments))
                    continue
                if kind == "value":
                    return content
                if kind == "ended":
                    raise Refused(str(content[0]))
                name, message, text = map(str, content)
                raise NotImplementedError if name == "NotImplementedError" else type(name, (Raised,), {})(message, text)

    def _send(self, value: Any, tag: Tag = lambda value: None) -> None:
        with contextlib.suppress(OSError):  # it has ended: there will be no reply
            self._process.stdin.write(packed(value, tag))
            self._process.stdin.flush()

    def _next_line(self) -> bytes:
        """The next message. Raises Refused if the process ended, or if its time is over."""
        try:
            line = self._lines.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            self._reason = f"it did not end within {self._task.seconds + START_UP:g} s and was stopped"
            line = b""
        if not line:
            output = self.end()
            raise Refused(self._reason or f"the code ended the process before the check was done{_last(output)}")
        return line

    def _note(self, chunk: bytes) -> None:
        """Keep what the learner's code prints, up to a limit."""
        self._printed += chunk
        if len(self._printed) > MOST_PRINTED:
            kilobytes = MOST_PRINTED // 1000
            self._reason = f"it printed more than {kilobytes} kB and was stopped; are there prints in a loop?"
            del self._printed[MOST_PRINTED:]
            self._kill()

    def end(self) -> str:
        """End the process, and those that it started. Returns what was printed."""
        if self._emulator:
            self._emulator.end()
        self._kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._lines.get_nowait()
        for reader in self._readers:  # a process that escaped may keep a stream open: do not wait for that
            reader.join(1.0)
        printed, timeout, trace = bytes(self._printed).decode(errors="replace").partition("Timeout (")
        if timeout and "most recent call first" in trace:
            self._reason = self._reason or _of_timeout(trace, Path(self._task.file), self._task.seconds)
            return printed
        return printed + timeout + trace

    def _kill(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # Windows has no groups
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()


def _pass_on(stream: IO[bytes], read: Callable[[], bytes], take: Callable[[bytes], None]) -> None:
    """Pass on what arrives at a stream, and b"" at its end."""
    with stream:
        while part := read():
            take(part)
    take(b"")


def _called(function: Callable, arguments: Sequence[Any]) -> list:
    """The result of a function that the learner's code calls: ["value", result, place], or ["raised", why, None].

    place: if the result is a view of an argument, (the number of that argument, offset in bytes, strides).
    """
    try:
        result = function(*arguments)
    except Exception as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "  # it is raised there as a ValueError
        return ["raised", f"{kind}{error}", None]
    for number, a in enumerate(arguments):
        if isinstance(result, np.ndarray) and isinstance(a, np.ndarray) and np.may_share_memory(result, a):
            return ["value", result, (number, result.ctypes.data - a.ctypes.data, result.strides)]
    return ["value", result, None]


def _of_timeout(trace: str, file: Path, seconds: float) -> str:
    """The sentence on a process that was ended because its time was over. trace: where it was."""
    stopped = f"it was not done after {seconds:g} s and was stopped"
    numbers = [int(n) for name, n in re.findall(r'File "(.*)", line (\d+)', trace) if name == str(file)]
    if not numbers or not file.is_file():
        return f"{stopped}; is there an endless loop?"
    line = file.read_text(errors="replace").splitlines()[numbers[0] - 1].strip()
    return f"{stopped} at line {numbers[0]}: `{line}`: an endless loop?"


def _last(output: str) -> str:
    last = output.strip().rpartition("\n")[2]
    return f" ({last:.200})" if last else ""
