"""Tells the user that kernels are being compiled: without a message the first step would seem to hang for seconds.

The first compilation of a process prints one line on stderr; on a terminal a bar follows. A kernel that comes from the
cache on disk prints nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from numba.core import event

from .helpers import start_if_they_help

COMPILING = "tinynet: compiling kernels for this machine (those of a U-Net take 10 to 25 s); "
KEPT = "they are kept in {folder}"
NOT_KEPT = "the cache folder {folder} cannot be written: they are not kept"


class Announcer(event.Listener):
    """Listens to Numba, which reports the start and the end of each compilation. It also starts helpers (helpers.py).

    kernels: tinynet's kernels. Only their compilation is announced, not that of Numba's or of the user's own functions.
    is_kept: True if all of them can be kept on disk.
    While Numba compiles a kernel, it compiles the functions that the kernel calls: only the outer compilation counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernels: list[Callable] = []
        self.is_kept = True
        self.compiled = 0
        self._outer: list[Callable] = []  # compilations in progress, the outermost first
        self._bar = None

    def on_start(self, started: event.Event) -> None:
        kernel = started.data["dispatcher"]
        if self.is_kept:
            start_if_they_help(kernel.__module__)
        if not self._outer and kernel in self.kernels:
            self._begin(kernel)
        self._outer.append(kernel)

    def on_end(self, ended: event.Event) -> None:
        kernel = self._outer.pop()
        self.compiled += kernel in self.kernels
        if not self._outer and self._bar is not None:
            self._bar.close()
            self._bar = None

    def _begin(self, kernel: Callable) -> None:
        from tqdm import tqdm

        if not self.compiled:
            line = COMPILING + (KEPT if self.is_kept else NOT_KEPT).format(folder=self.folder)
            tqdm.write(line, file=sys.stderr)  # does not break a progress bar
        self._bar = tqdm(
            desc=f"compiling {kernel.__module__.removeprefix('tinynet.ops.')}",
            initial=self.compiled,
            total=max(self._expected(), self.compiled + 1),
            bar_format="{desc}: {n_fmt}/{total_fmt} {bar}",
            leave=False,
            disable=None,  # shown on a terminal only
        )

    def _expected(self) -> int:
        """The number of kernels in the modules in use: at most so many will be compiled."""
        modules = {kernel.__module__ for kernel in self.kernels if kernel.overloads}
        return sum(kernel.__module__ in modules for kernel in self.kernels)
