"""Where the time of a step goes: in which kernel, and in which Function around it.

A stopwatch runs for the innermost of the calls under way, so that the times of all rows add up to the step:

    conv2d.forward             the kernel alone
    Conv2d                     its Function, forward and backward: shape checks, `save`; for an op without
                               hand-written kernels (pad), or with small arrays (concat), the NumPy call, too
    adam.step                  the kernel of the optimizer
    optimizer, other           the Python around that kernel; the engine, the layers' Python and the loss's `item()`
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from ...backends import registry as kernels
from ...engine.tensor import Function
from ...nn.optim import Optimizer
from ..cli import option
from .examples import check_sizes, infer_step, new_unet, train_step


@dataclass
class Row:
    """One line of the table: what, how often, and its own seconds without those of the calls inside of it."""

    name: str
    shapes: str  # of the arrays it was called with; "" outside of kernels
    calls: int = 0
    seconds: float = 0.0


class Profile:
    """Collects rows while `with profile.recording():` is open."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._rows: dict[tuple[str, str], Row] = {}
        self._running: list[Row] = []  # the calls under way, the innermost last
        self._resumed = 0.0  # when the innermost call's stopwatch was started

    def rows(self, by_shape: bool = False) -> list[Row]:
        """The rows, the largest time first; one for each name, or for each name and shapes."""
        found: dict[tuple[str, str], Row] = defaultdict(lambda: Row("", ""))
        for row in self._rows.values():
            shapes = row.shapes if by_shape else ""
            total = found[row.name, shapes]
            total.name, total.shapes = row.name, shapes
            total.calls += row.calls
            total.seconds += row.seconds
        return sorted(found.values(), key=lambda row: -row.seconds)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Time what happens inside `with`. For that time the profile stands in front of four functions of tinynet."""
        apply, gradients, step = Function.apply.__func__, Function._gradients, Optimizer.step
        lookup = kernels.implementation_kernel

        @functools.cache  # the same function for the same kernel, as without a profile
        def timed_kernel(op: str, name: str, *which: Any) -> Callable:
            function = lookup(op, name, *which)

            def call(*arrays: Any, **parameters: Any) -> Any:
                with self._clocked(f"{op}.{name}", shapes_of(arrays)):
                    return function(*arrays, **parameters)

            return call

        def timed_apply(cls: type[Function], *arguments: Any, **parameters: Any) -> Any:
            with self._clocked(cls.__name__):
                return apply(cls, *arguments, **parameters)

        def timed_gradients(function: Function, *arguments: Any) -> Any:
            with self._clocked(type(function).__name__):
                return gradients(function, *arguments)

        def timed_step(optimizer: Optimizer) -> None:
            with self._clocked("optimizer"):
                step(optimizer)

        with (
            mock.patch.object(kernels, "implementation_kernel", timed_kernel),
            mock.patch.object(Function, "apply", classmethod(timed_apply)),
            mock.patch.object(Function, "_gradients", timed_gradients),
            mock.patch.object(Optimizer, "step", timed_step),
            self._clocked("other"),
        ):
            start = time.perf_counter()
            yield
            self.seconds += time.perf_counter() - start

    @contextlib.contextmanager
    def _clocked(self, name: str, shapes: str = "") -> Iterator[None]:
        row = self._rows.setdefault((name, shapes), Row(name, shapes))
        self._switch()
        self._running.append(row)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()
            row.calls += 1

    def _switch(self) -> None:
        """Book the time since the last switch on the innermost call."""
        now = time.perf_counter()
        if self._running:
            self._running[-1].seconds += now - self._resumed
        self._resumed = now


def shapes_of(arrays: tuple) -> str:
    """'16x256x256x3, 3x3x3x16': a kernel's arguments, as far as they are arrays or lists of arrays."""

    def label(argument: Any) -> str:
        if isinstance(argument, np.ndarray):
            return "x".join(map(str, argument.shape)) or "scalar"
        if isinstance(argument, (list, tuple)):
            return " + ".join(map(label, argument)) if len(argument) < 4 else f"{len(argument)} arrays"
        return ""

    return ", ".join(filter(None, map(label, arrays)))


def profiled_step(step: Callable[[], Any], steps: int) -> Profile:
    """The profile of one step: of the one with the median time, after one to warm up."""
    step()
    profiles = []
    for _ in range(steps):
        profiles.append(Profile())
        with profiles[-1].recording():
            step()
    return sorted(profiles, key=lambda profile: profile.seconds)[len(profiles) // 2]


def format_profile(profile: Profile, dearest: int = 12) -> str:
    """Two tables: all rows by name, and the dearest kernels by the shapes they were called with."""

    def line(row: Row, label: str, width: int) -> str:
        share = row.seconds / profile.seconds
        return f"{label:{width}} {row.calls:>6} {1000 * row.seconds:9.2f} {share:7.1%}"

    by_name = profile.rows()
    by_shape = [row for row in profile.rows(by_shape=True) if row.shapes][:dearest]
    labels = [f"{row.name} {row.shapes}" for row in by_shape]
    width = max(len(label) for label in [*labels, *(row.name for row in by_name)])
    head = f"{'calls':>{width + 7}} {'ms':>9} {'share':>7}"
    lines = [head, *(line(row, row.name, width) for row in by_name)]
    lines += [f"{'total':{width}} {'':6} {1000 * profile.seconds:9.2f}", "", f"the {len(by_shape)} dearest by shape:"]
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
