"""Processes of their own for what is measured: the parent's end of the pipe to each; `serve.py` is the child's end.

The parent writes a request, a line of JSON; the child answers with a line of JSON. The child ends when the pipe is
closed, either by the parent or because the parent has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import machine, serve

MIN_CALLS, MAX_CALLS, SECONDS_PER_CALL = 3, 30, 0.2  # of one kernel
ATTEMPTS = 3  # to measure while other processes are quiet
SECONDS_FOR_ONE = 1.0  # the version "naive" of a kernel may take many seconds at the sizes of the U-Net
LOUD = 0.1  # a measurement is not quiet if other processes use more cores than this


class ChildError(ChildProcessError):
    """A child process cannot run or measure; the message says why."""


class Child:
    """The parent's end: starts a process for a module's `start(*arguments)` and asks it for measurements.

    module: a name, or the path of a file that ends with `.py`. threads: for every library that the child uses.
    environment: further variables. checkout: a folder; the child imports the tinynet that is in it.
    started: what the child answers when it is ready.
    Raises ChildError when the child cannot start, reports an error or ends unasked.
    """

    def __init__(
        self,
        module: str,
        *arguments: Any,
        threads: int,
        environment: Mapping[str, str] | None = None,
        checkout: Path | None = None,
    ) -> None:
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the child)
        variables = {**os.environ, **machine.thread_variables(threads), **(environment or {})}
        if checkout:
            variables["PYTHONPATH"] = str(checkout)
        self._process = subprocess.Popen(
            [sys.executable, "-c", Path(serve.__file__).read_text(encoding="utf-8"), module, *map(str, arguments)],
            env=variables,
            cwd=checkout,  # Python looks for modules here first
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the others
        )
        try:
            self.started = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, request: Any) -> dict[str, Any]:
        """The child's answer, with "cpu_seconds", "peak_mb", and "others_busy": how many cores other processes used.

        NaN on a system that does not tell.
        """
        busy, start = machine.busy_seconds(), time.perf_counter()
        with contextlib.suppress(OSError):  # the child has ended; `_answer` says why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        answer = self._answer()
        busy, seconds = machine.busy_seconds() - busy, time.perf_counter() - start
        # In a request of 20 ms, one tick too many would look like half a core.
        by_others = busy - answer["cpu_seconds"] - machine.busy_resolution()
        answer["others_busy"] = max(by_others, 0.0) / seconds  # in this order NaN stays NaN
        return answer

    def cpu_ticks(self) -> int:
        """The processor time that the child has used, in ticks of the system; 0 on a system that does not tell."""
        try:
            with open(f"/proc/{self._process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0
        return int(fields[11]) + int(fields[12])  # in user and in system mode

    def close(self) -> None:
        """End the process, even while it works."""
        self._process.kill()
        self._process.communicate()
        self._messages.close()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().strip().splitlines()
        return f"its process ended with {code}" + (f": {lines[-1]}" if lines else "")


def timed(function: Callable[[], Any]) -> list[float]:
    """Milliseconds of each call: at least MIN_CALLS calls, and as many as fit in SECONDS_PER_CALL.

    A call that takes more than SECONDS_FOR_ONE is not repeated.
    """
    times: list[float] = []
    while sum(times) < 1000 * (SECONDS_FOR_ONE if len(times) < MIN_CALLS else SECONDS_PER_CALL):
        if len(times) == MAX_CALLS:
            break
        begin = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - begin))
    return times


def wait_until_idle(children: Iterable[Child]) -> None:
    """Wait until no child uses processor time: the threads of some frameworks spin for a while after their work."""
    children = list(children)
    for _ in range(50):
        before = [child.cpu_ticks() for child in children]
        time.sleep(0.03)
        if [child.cpu_ticks() for child in children] == before:
            return


def quiet_answer(child: Child, request: Any, idle: Child | None = None) -> dict[str, Any]:
    """The first answer of a child that no other process disturbed, or that took long, or the last.

    idle: a child that must not work.
    """
    for _ in range(ATTEMPTS):
        wait_until_idle([idle] if idle else [])
        answer = child.ask(request)
        if not answer["others_busy"] > LOUD or sum(answer.get("ms", ())) > 1000 * SECONDS_FOR_ONE:
            break
    return answer


def progress(items: Iterable[Any], label: str) -> Iterator[Any]:
    """The items, with progress on stderr: a bar on a terminal, otherwise a line for each item."""
    if sys.stderr.isatty():
        yield from tqdm(items, label, leave=False)
    else:
        for item in items:
            print(f"{label} {item}", file=sys.stderr, flush=True)
            yield item
