"""One computation at a time, in one thread: two threads that run Numba's kernels at once would abort the process."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from ...errors import BackendError
from .project import StoredImage


class Busy(RuntimeError):
    """Another computation runs; the message says which."""


class Stopped(Exception):
    """The person stopped the computation."""


@dataclass
class Status:
    """What the page shows of a computation. `done` of `total` steps; `error` is a sentence if it failed."""

    title: str = ""
    step: str = ""
    done: float = 0.0
    total: float = 0.0
    running: bool = False
    stopping: bool = False
    error: str = ""


Task = tuple[Callable[["Worker"], None], Sequence[StoredImage]]


class Worker:
    """The thread, and the status of its computation."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._status, self._started = Status(), 0.0
        self._thread = threading.Thread(target=self._run, name="computations", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._status.running

    def start(self, title: str, task: Callable[[Worker], None], images: Sequence[StoredImage] = ()) -> None:
        """Run `task(self)` in the thread. `images` are busy until its end. Raises Busy if another task runs."""
        with self._lock:
            if self._status.running:
                raise Busy(f"busy: {self._status.title}; wait for its end or stop it")
            self._status, self._started = Status(title, running=True), time.monotonic()
            for image in images:
                image.busy = True
        self._tasks.put((task, images))

    def report(self, done: float, total: float, step: str = "") -> None:
        """Called by a task: how far it is. Raises Stopped if it is to end."""
        with self._lock:
            if self._status.stopping:
                raise Stopped
            self._status.done, self._status.total, self._status.step = done, total, step

    def stop(self) -> None:
        """The task ends at its next report."""
        with self._lock:
            self._status.stopping = self._status.running

    def status(self) -> dict:
        """The fields of `Status`, the seconds since the start and, as far as they can be known, the seconds left."""
        with self._lock:
            status = asdict(self._status)
            seconds = time.monotonic() - self._started if status["running"] else 0.0
        share = status["done"] / status["total"] if status["total"] else 0.0
        left = seconds * (1 - share) / share if share > 0.02 else None
        return {**status, "seconds": seconds, "secondsLeft": left}

    def close(self, seconds: float = 10.0) -> None:
        """Stop the task and the thread; wait so many seconds for them."""
        self.stop()
        self._tasks.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while (item := self._tasks.get()) is not None:
            task, images = item
            error = ""
            try:
                task(self)
            except Stopped:
                pass
            except (ValueError, OSError, BackendError, MemoryError) as problem:
                error = str(problem) or type(problem).__name__
            except Exception as problem:  # a mistake in the program: the thread must live on
                traceback.print_exc()
                error = f"{type(problem).__name__}: {problem}; the terminal shows more"
            for image in images:
                image.busy = False
            with self._lock:
                self._status = Status(self._status.title, error=error)
