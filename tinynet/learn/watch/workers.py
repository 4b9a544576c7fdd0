"""Processes that check kernels (child.py), from the side of those who ask."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ...backends.cuda.source import PACKAGE
from .child import SECONDS
from .targets import OPS

Look = Callable[[], None]
POLL = 0.1  # seconds between two looks at the files
# What the compilers of the package say; whoever saves a file every minute need not read it every minute.
COMPILING = "tinynet: compiling"
MOST_PRINTED = 200  # lines that a kernel may print


def nothing() -> None:
    """A look that sees nothing."""


class Workers:
    """Up to `count` processes for one op. Started when they are needed; `close` ends them, whatever they do.

    quiet: keep to yourself that something is being compiled.
    """

    def __init__(self, op: str, count: int = 1, quiet: bool = False) -> None:
        self._op, self._count, self._quiet = op, count, quiet
        self._answers: queue.Queue[tuple[_Worker, dict | None]] = queue.Queue()
        self._workers: list[_Worker] = []
        self._folder = tempfile.TemporaryDirectory(prefix="tinynet-op-")

    def each(
        self, requests: Iterable[dict[str, Any]], look: Look = nothing
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """(request, answer) as they come. look: called several times a second; what it raises ends the waiting.

        An answer {"failed": ...} says what went wrong; where a process has ended, another one takes the next request.
        """
        todo, running = deque(requests), {}
        while todo or running:
            self._start(min(self._count, len(todo) + len(running)))
            for worker in self._workers:
                if todo and worker not in running:
                    running[worker] = todo.popleft()
                    worker.send(running[worker])
            look()
            with contextlib.suppress(queue.Empty):
                worker, answer = self._answers.get(timeout=POLL)
                if worker not in running:  # it died while nobody asked
                    self._workers.remove(worker)
                    continue
                if answer is None:
                    self._workers.remove(worker)
                    answer = {"failed": worker.last_words()}
                yield running.pop(worker), answer

    def ask(self, request: dict[str, Any], look: Look = nothing) -> dict[str, Any]:
        """The answer to one request."""
        return next(iter(self.each([request], look)))[1]

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.kill()
        self._folder.cleanup()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self, count: int) -> None:
        while len(self._workers) < count:
            self._workers.append(_Worker(self._op, Path(self._folder.name), self._answers, self._quiet))


class _Worker:
    """One process. Its answers go into a queue, None when it has ended."""

    def __init__(self, op: str, folder: Path, answers: queue.Queue, quiet: bool) -> None:
        self._answers, self._quiet = answers, quiet
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            self._trace = Path(file.name)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tinynet.learn.watch.child", op, str(self._trace)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the others
        )
        self._last_printed = ""
        self._printing = threading.Thread(target=self._pass_on, daemon=True)
        self._printing.start()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, request: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it has ended; that comes as an answer
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._answers.put((self, json.loads(line)))
        self._answers.put((self, None))

    def _pass_on(self) -> None:
        """Show what the process prints: a kernel's own prints are to be seen, up to a limit."""
        for number, line in enumerate(self._process.stderr):
            self._last_printed = line.strip() or self._last_printed
            if number == MOST_PRINTED:
                print(f"... (more than {MOST_PRINTED} lines are not shown)", file=sys.stderr)
            if number < MOST_PRINTED and not (self._quiet and line.startswith(COMPILING)):
                print(line, end="", file=sys.stderr, flush=True)

    def last_words(self) -> str:
        """Why it has ended unasked, and where it was."""
        code = self._process.wait()
        self._printing.join(1.0)
        trace = self._trace.read_text(errors="replace")
        where = place_in(trace)
        if "Timeout" in trace:
            return f"{where}\nit was not done after {SECONDS:g} s and was stopped: an endless loop?"
        if code < 0:
            what = signal.strsignal(-code) or f"signal {-code}"
            hint = ": an index out of bounds?" if -code in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT) else ""
            return f"{where}\nit ended the process ({what}){hint}"
        return f"the process ended with {code}: {self._last_printed}"


def place_in(trace: str) -> str:
    """The innermost line of an operation's file in what faulthandler wrote, as `file:line: text`."""
    for name, number in re.findall(r'File "(.*)", line (\d+)', trace):
        path = Path(name)
        if OPS in path.parents:
            line = path.read_text(encoding="utf-8").splitlines()[int(number) - 1].strip()
            return f"{path.relative_to(PACKAGE.parent).as_posix()}:{number}: `{line}`"
    return "outside of the operations' files"
