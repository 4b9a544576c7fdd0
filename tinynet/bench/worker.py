"""A process of its own for each contestant, and the two ends of the pipe to it.

The parent writes the number of steps wanted in a line; the child does them and answers with a line of JSON. When
the pipe is closed, because the parent is done or because it is no more, the child ends.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from .machine import peak_memory, thread_variables
from .peers import PEERS


class PeerError(RuntimeError):
    """A contestant cannot run; the message says why."""


class Worker:
    """The parent's end: starts the process of a peer and asks it for steps.

    name: a key of PEERS. mode: "train" or "infer". batch, size: of the images. threads: for its framework.
    started: what the child says of itself: "parameters", "versions", "seconds" to import and build.
    Raises PeerError when the peer cannot be started or ends unasked.
    """

    def __init__(self, name: str, mode: str, batch: int, size: int, threads: int) -> None:
        self.name = name
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the worker)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, name, mode, str(batch), str(size), str(threads)],
            env={**os.environ, **thread_variables(threads), **PEERS[name].environment},
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

    def steps(self, count: int) -> dict[str, Any]:
        """Do so many steps: {"ms": of each, "value": of the last, "cpu_seconds", "peak_mb"}."""
        try:
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended; what it said shows why
        return self._answer()

    def cpu_ticks(self) -> int:
        """How much processor time it has used, in the system's ticks; 0 where the system does not tell."""
        try:
            with open(f"/proc/{self._process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0
        return int(fields[11]) + int(fields[12])

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._messages.close()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().strip().splitlines()
        return f"its process ended with {code}" + (f": {lines[-1]}" if lines else "")


def main(name: str, mode: str, batch: str, size: str, threads: str) -> None:
    """The child's end."""
    # Frameworks print what they like; only answers may go to the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    try:
        start = time.perf_counter()
        module = importlib.import_module(f"{__package__}.peers.{PEERS[name].module}")
        contestant = module.contestant(mode, int(batch), int(size), int(threads), **PEERS[name].options)
        seconds = time.perf_counter() - start
        answer(parameters=contestant.parameters, versions=contestant.versions, seconds=seconds)
        for line in sys.stdin:
            times = []
            cpu = time.process_time()
            for _ in range(int(line)):
                start = time.perf_counter()
                value = contestant.step()
                times.append(1000 * (time.perf_counter() - start))
            answer(ms=times, value=value, cpu_seconds=time.process_time() - cpu, peak_mb=peak_memory())
    except ModuleNotFoundError as error:
        answer(error=f"{error.name} is not installed (pip install tinynet[bench])")
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
