"""Where the time of a step goes: in which kernel, and in which Function around it.

The time between two events is booked on the innermost call that is running, so that all rows add up to the step:

    conv2d.forward             the kernel alone
    Conv2d                     its Function, forward and backward: shape checks, `save`; for an op without
                               hand-written kernels (pad), or with small arrays (concat), also the NumPy call
    adam.step                  the kernel of the optimizer
    optimizer, other           the Python around that kernel; the engine, the layers' Python and the loss's `item()`
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from ...backends import registry
from ...engine.tensor import Function
from ...nn.optim import Optimizer
from ..cli import option
from .examples import check_sizes, infer_step, new_unet, train_step


@dataclass
class Row:
    """One line of the table: its seconds do not include the calls that it makes."""

    name: str
    shapes: str  # of the arrays of a kernel; "" for everything else
    calls: int = 0
    seconds: float = 0.0


class Profile:
    """Collects rows while `with profile.recording():` is open."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._rows: dict[tuple[str, str], Row] = {}
        self._running: list[Row] = []  # the calls under way, the innermost last
        self._booked_until = 0.0

    def rows(self, by_shape: bool = False) -> list[Row]:
        """The rows, the largest time first; one for each name, or for each name and shapes."""
        found: dict[tuple[str, str], Row] = {}
        for row in self._rows.values():
            key = (row.name, row.shapes if by_shape else "")
            total = found.setdefault(key, Row(*key))
            total.calls += row.calls
            total.seconds += row.seconds
        return sorted(found.values(), key=lambda row: -row.seconds)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Time everything inside `with`. Until its end, four functions of tinynet are replaced by timed ones."""
        lookup = registry.implementation_kernel

        @functools.cache  # the same function for the same kernel, as without a profile
        def kernel(op: str, name: str, *which: Any) -> Callable:
            return self._timed(lookup(op, name, *which), lambda *arrays: (f"{op}.{name}", shapes_of(arrays)))

        apply = self._timed(Function.apply.__func__, lambda cls, *_: (cls.__name__, ""))
        gradients = self._timed(Function._gradients, lambda function, *_: (type(function).__name__, ""))
        step = self._timed(Optimizer.step, lambda *_: ("optimizer", ""))
        with (
            mock.patch.object(registry, "implementation_kernel", kernel),
            mock.patch.object(Function, "apply", classmethod(apply)),
            mock.patch.object(Function, "_gradients", gradients),
            mock.patch.object(Optimizer, "step", step),
            self._clocked("other"),
        ):
            start = time.perf_counter()
            yield
            self.seconds += time.perf_counter() - start

    def _timed(self, function: Callable, key_of: Callable[..., tuple[str, str]]) -> Callable:
        """The function, timed. key_of: (name, shapes) of its row, from its positional arguments."""

        def call(*arguments: Any, **parameters: Any) -> Any:
            with self._clocked(*key_of(*arguments)):
                return function(*arguments, **parameters)

        return call

    @contextlib.contextmanager
    def _clocked(self, name: str, shapes: str = "") -> Iterator[None]:
        row = self._rows.setdefault((name, shapes), Row(name, shapes))
        self._book()
        self._running.append(row)
        try:
            yield
        finally:
            self._book()
            self._running.pop()
            row.calls += 1

    def _book(self) -> None:
        """Add the time since the last event to the innermost call."""
        now = time.perf_counter()
        if self._running:
            self._running[-1].seconds += now - self._booked_until
        self._booked_until = now


def shapes_of(arrays: tuple) -> str:
    """'16x256x256x3, 3x3x3x16': a kernel's arguments, as far as they are arrays or lists of arrays."""

    def label(argument: Any) -> str:
        if isinstance(argument, np.ndarray):
            return "x".join(map(str, argument.shape)) or "scalar"
        if isinstance(argument, (list, tuple)):
            labels = [text for text in map(label, argument) if text]
            return " + ".join(labels) if len(labels) < 4 else f"{len(labels)} arrays"
        return ""

    return ", ".join(filter(None, map(label, arrays)))


def profiled_step(step: Callable[[], Any], steps: int) -> Profile:
    """The profile of the step with the median time, after one step to warm up."""
    step()
    profiles = []
    for _ in range(steps):
        profiles.append(Profile())
        with profiles[-1].recording():
            step()
    return sorted(profiles, key=lambda profile: profile.seconds)[len(profiles) // 2]


def format_profile(profile: Profile, most: int = 12) -> str:
    """Two tables: all rows by name, and the most expensive kernels by the shapes they were called with."""

    def line(row: Row, label: str, width: int) -> str:
        share = row.seconds / profile.seconds
        return f"{label:{width}} {row.calls:>6} {1000 * row.seconds:9.2f} {share:7.1%}"

    by_name = profile.rows()
    by_shape = [row for row in profile.rows(by_shape=True) if row.shapes][:most]
    labels = [f"{row.name} {row.shapes}" for row in by_shape]
    width = max(len(label) for label in [*labels, *(row.name for row in by_name)])
    head = f"{'calls':>{width + 7}} {'ms':>9} {'share':>7}"
    lines = [head, *(line(row, row.name, width) for row in by_name)]
    lines += [
        f"{'total':{width}} {'':6} {1000 * profile.seconds:9.2f}",
        "",
        f"the {len(by_shape)} most expensive by shape:",
    ]
    return "\n".join([*lines, *(line(row, label, width) for row, label in zip(by_shape, labels))])


# ---------------------------------------------------------------------------------------- the command
@dataclass
class ProfileConfig:
    """The flags of `bench profile`."""

    batch: int = option(16, "images per step")
    size: int = option(256, "their height and width, a multiple of 16")
    threads: int | None = option(None, "threads (default: all that Numba has)")
    steps: int = option(5, "steps measured; the one with the median time is shown")
    mode: str = option("train", "what a step is", choices=("train", "infer"))

    def __post_init__(self) -> None:
        counts = {} if self.threads is None else {"threads": self.threads}
        check_sizes(self.size, batch=self.batch, steps=self.steps, **counts)


def profile(config: ProfileConfig) -> Profile:
    """Where the time of one step of the U-Net goes, by kernel."""
    make_step = train_step if config.mode == "train" else infer_step
    with numba_threads(config.threads) as threads:
        found = profiled_step(make_step(new_unet(), config.batch, config.size), config.steps)
    print(
        f"one step ({config.mode}) of the U-Net, {config.batch} x {config.size} x {config.size} x 3, float32, "
        f"{threads} threads\n"
    )
    print(format_profile(found))
    return found


@contextlib.contextmanager
def numba_threads(threads: int | None) -> Iterator[int]:
    """Inside `with`, kernels run in so many threads; None: in as many as before. Yields their number.

    Raises ValueError for more than Numba has: their number is fixed when it is imported.
    """
    import numba

    from ...backends.numba import jit  # noqa: F401 (loads OpenMP with tinynet's settings before threads are started)

    before, most = numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS
    if threads is not None and threads > most:
        raise ValueError(f"--threads is {threads}; Numba has {most}: set NUMBA_NUM_THREADS={threads}")
    numba.set_num_threads(threads or before)
    try:
        yield numba.get_num_threads()
    finally:
        numba.set_num_threads(before)
