"""Starts the processes that check kernels (process.py) and collects their answers."""

from __future__ import annotations

import multiprocessing
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from ...backends.cuda.source import PACKAGE
from .process import SECONDS, Failed, answer_to, begin
from .targets import OPS

Look = Callable[[], None]
POLL = 0.1  # seconds between two looks at the files


def nothing() -> None:
    """A look that sees nothing."""


class Workers:
    """Up to `count` processes for one op, started when they are needed. Leaving `with` ends them.

    quiet: do not show what is being compiled.
    """

    def __init__(self, op: str, count: int = 1, quiet: bool = False) -> None:
        self._op, self._count, self._quiet = op, count, quiet
        self._folder = tempfile.TemporaryDirectory(prefix="tinynet-op-")
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[Future, Any] = {}

    def each(self, do: Callable, items: Iterable[Any], look: Look = nothing) -> Iterator[tuple[Any, Any]]:
        """(item, do(op, item)) for each item, in the order in which they are done.

        look: called several times a second; an exception from it ends the waiting. The answer is a Failed if `do`
        raises an exception or ends its process. In the second case, new processes take the remaining items.
        """
        todo = list(items)
        while todo:
            for item, answer in self._until_one_dies(do, todo, look):
                todo.remove(item)
                yield item, answer

    def ask(self, do: Callable, item: Any, look: Look = nothing) -> Any:
        """do(op, item), or Failed."""
        return next(self.each(do, [item], look))[1]

    def _until_one_dies(self, do: Callable, items: list[Any], look: Look) -> Iterator[tuple[Any, Any]]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, begin, (self._folder.name, self._quiet))
        running = self._running = {}
        try:
            for item in items:
                running[self._pool.submit(answer_to, do, self._op, item)] = item
            while running:
                look()
                for future in wait(running, POLL, FIRST_COMPLETED).done:
                    answer = future.result()
                    yield running.pop(future), answer
        except BrokenProcessPool:
            self._pool = None
            if running:
                yield self._last_words(list(running.values()))

    def _last_words(self, items: list[Any]) -> tuple[Any, Failed]:
        """(the item whose process died, why it died and where it was)."""
        for trace in Path(self._folder.name).iterdir():
            label, _, text = trace.read_text(errors="replace").partition("\n")
            trace.unlink()
            if text:
                item = next((item for item in items if str(item) == label), items[0])
                if "Timeout" in text:
                    why = f"it was not done after {SECONDS:g} s and was stopped: an endless loop?"
                else:
                    error = re.search("Fatal Python error: (.*)", text)
                    why = f"it ended the process ({error[1] if error else 'crash'}): an index out of bounds?"
                return item, Failed(f"{_place_in(text)}\n{why}")
        return items[0], Failed("it ended the process")

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._running:  # a kernel may never return
            for process in multiprocessing.active_children():
                process.kill()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()


def _place_in(trace: str) -> str:
    """The innermost line of an op's file in a traceback of faulthandler, as `file:line: text`."""
    for name, number in re.findall(r'File "(.*)", line (\d+)', trace):
        path = Path(name)
        if OPS in path.parents:
            line = path.read_text(encoding="utf-8").splitlines()[int(number) - 1].strip()
            return f"{path.relative_to(PACKAGE.parent).as_posix()}:{number}: `{line}`"
    return "outside the files of the operations"
