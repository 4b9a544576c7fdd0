"""Says that kernels are being compiled, where the first step would otherwise take seconds without a word.

The first compilation of a process prints one line on stderr; on a terminal a bar follows. What comes from the cache
on disk is silent. Where a process that trains begins to compile a convolution, a second process lends a hand: see
`compile_ahead.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from numba import types
from numba.core import event

HELPER = "TINYNET_COMPILES_AHEAD"  # an environment variable: set in the second process, which starts no third
LINE = "tinynet: compiling kernels for this machine, once (those of a U-Net take about 15 s); they are kept in {folder}"


class Announcer(event.Listener):
    """Listens to Numba, which reports the start and the end of each compilation.

    kernels: the functions to speak of; Numba's own and those of the program that uses tinynet are none of our business.
    A kernel that calls others compiles them in the course of its own compilation, which then is the outer one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernels: list[Callable] = []
        self.compiled = 0
        self._outer: list[Callable] = []  # the compilations under way
        self._bar = None
        self._helper: subprocess.Popen | None = None

    def on_start(self, started: event.Event) -> None:
        kernel = started.data["dispatcher"]
        if not self._outer and kernel in self.kernels:
            self._begin(kernel)
            if self._helper is None and _will_train(kernel, started.data["args"]):
                self._helper = _start_helper()
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
            tqdm.write(LINE.format(folder=self.folder), file=sys.stderr)  # above a bar that may be there
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


def _will_train(kernel: Callable, arguments: tuple[types.Type, ...]) -> bool:
    """Whether this is a convolution of the usual kind in a process that has imported the optimisers."""
    is_float32 = any(isinstance(a, types.Array) and a.dtype == types.float32 for a in arguments)
    return kernel.__module__.startswith("tinynet.ops.conv2d.") and is_float32 and "tinynet.optim" in sys.modules


def _start_helper() -> subprocess.Popen | None:
    """Start `python -m tinynet.compile_ahead` where there is a core for it; nobody waits for it."""
    is_program = getattr(sys, "frozen", False) or not sys.executable  # then this is no Python that takes -m
    if HELPER in os.environ or is_program or (os.cpu_count() or 1) < 2:
        return None
    folder = Path(__file__).resolve().parents[2]  # of the tinynet that is running
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "tinynet.compile_ahead"],
        env={**os.environ, HELPER: "1", "PYTHONPATH": path, "NUMBA_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
