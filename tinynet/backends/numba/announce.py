"""Says that kernels are being compiled, where the first step would otherwise take seconds without a word.

The first compilation of a process prints one line on stderr; on a terminal a bar follows. What comes from the cache
on disk is silent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from numba.core import event

COMPILING = "tinynet: compiling kernels for this machine (those of a U-Net take 15 to 25 s); "
KEPT = "they are kept in {folder}"
NOT_KEPT = "the cache folder {folder} cannot be written: they are not kept"


class Announcer(event.Listener):
    """Listens to Numba, which reports the start and the end of each compilation.

    kernels: the functions to speak of; Numba's own and those of the program that uses tinynet are none of our business.
    is_kept: whether they can all be kept on disk.
    A kernel that calls others compiles them in the course of its own compilation, which then is the outer one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernels: list[Callable] = []
        self.is_kept = True
        self.compiled = 0
        self._outer: list[Callable] = []  # the compilations under way
        self._bar = None

    def on_start(self, started: event.Event) -> None:
        kernel = started.data["dispatcher"]
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
            tqdm.write(line, file=sys.stderr)  # above a bar that may be there
        self._bar = tqdm(
            desc=f"compiling {kernel.__module__.removeprefix('tinynet.ops.')}",
            initial=self.compiled,
            total=max(self._expected(), self.compiled + 1),
            bar_format="{desc}: {n_fmt}/{total_fmt} {bar}",
            leave=False,
            disable=None,  # shown on a terminal only
        )

    def _expected(self) -> int:
        """How many kernels there are in the modules in use; not all of them may be needed."""
        modules = {kernel.__module__ for kernel in self.kernels if kernel.overloads}
        return sum(kernel.__module__ in modules for kernel in self.kernels)
