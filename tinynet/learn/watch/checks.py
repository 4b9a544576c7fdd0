"""The checks that run in a process of their own (process.py). Each function answers one request about an op."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from ...backends.cuda.source import KernelCall, Source
from ...backends.devices import to_device
from ...backends.registry import implementation_kernel, use_backend
from ...ops._shared.case import map_arrays
from ..gradcheck import gradcheck
from ..gradcheck.command import AXES
from ..gradcheck.tiers import cases_of, check_kernel, every_access_checked
from . import process
from .targets import DERIVATIVES, Target, files_of, home_of, targets_of

SEED = 7
ENOUGH = 8  # elements: a mistake that is found in fewer may be chance
BUSY = 0.2  # cores that other programs use: a time is then too long
LONGER = 1.0  # seconds in which further wrong cases are tried


@dataclass(frozen=True)
class Origin:
    """Where a target comes from: the file that contains its function, and all files that it is built from."""

    home: Path
    files: set[Path]


@dataclass(frozen=True)
class Checked:
    """The result of a check. cases: how many were run. files: what the target was built from.

    error, allowed: in the case shown in the report, or in the case that comes nearest to what is allowed.
    builds: the `.cu` files that were compiled, with their macros.
    """

    right: bool
    cases: int
    error: float
    allowed: float
    report: str
    files: set[Path]
    builds: list[tuple[Path, dict]]


class Time(NamedTuple):
    """Milliseconds of a kernel. others: how many cores other processes used meanwhile."""

    ms: float
    others: float = 0.0

    def __str__(self) -> str:
        busy = f"  (other programs used {self.others:.1f} cores: too long)" if self.others > BUSY else ""
        return f"{self.ms:9.3f} ms{busy}"


@dataclass(frozen=True)
class Outcome:
    """The result of one case. report: empty if it is right.

    is_named: the report says which mistake gives exactly this result. size: how many elements the result has.
    """

    label: str
    error: float
    allowed: float
    report: str = ""
    is_named: bool = False
    size: int = 0

    @property
    def says(self) -> tuple[bool, bool]:
        """How much the report says, for comparisons."""
        return self.is_named and self.size >= ENOUGH, self.is_named


# ---------------------------------------------------------------------------------------- requests
def listed(op: str, tier: str) -> dict[Target, Origin]:
    """The targets of a tier."""
    process.clock.start()
    return {target: Origin(home_of(op, target), files_of(op, target)) for target in targets_of(op, tier)}


def built(op: str, builds: Sequence[tuple[Path, dict]]) -> None:
    """Compile `.cu` files for the emulator, as many at a time as there are cores."""
    from ...backends.cusim.build import library

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(library, Source(path), macros, True) for path, macros in builds]:
            done.result()


def checked(op: str, target: Target) -> Checked:
    """Check a target, from the smallest case on.

    After the first wrong case, further cases are tried for a moment: the report on one of them may say more.
    """
    process.clock.start()
    noted: list[tuple[Source, dict]] = []
    outcomes: list[Outcome] = []
    latest = math.inf
    with use_backend(target.tier), every_access_checked(target.tier), launches_noted(target.tier, noted):
        for outcome in (derivative_checks if target.kernel == DERIVATIVES else kernel_checks)(op, target):
            outcomes.append(outcome)
            if outcome.report:
                latest = min(latest, time.monotonic() + LONGER)
            if all(outcome.says) or time.monotonic() > latest:
                break
            process.clock.start()
    wrong = [outcome for outcome in outcomes if outcome.report]
    shown = max(wrong, key=lambda o: o.says) if wrong else max(outcomes, key=lambda o: o.error / o.allowed)
    report = f"wrong from the small case '{wrong[0].label}' on\n{shown.report}" if wrong else ""
    files = files_of(op, target, [source for source, _ in noted])
    builds = [(source.path, macros) for source, macros in noted]
    return Checked(not wrong, len(outcomes), shown.error, shown.allowed, report, files, builds)


def kernel_checks(op: str, target: Target) -> Iterator[Outcome]:
    """A kernel against the reference, in float32; the reference itself against Numba's kernel, both in float64."""
    is_reference = target.tier == "reference"
    dtype, against = ("float64", "cpu") if is_reference else ("float32", "reference")
    called = [case for case in cases_of(op, SEED) if target.kernel in case.calls]
    for case in sorted(called, key=lambda case: _size(case.calls[target.kernel][0])):
        check = check_kernel(op, target.kernel, target.tier, target.implementation, dtype, [case], against)
        found = check.explanation
        report = (str(found), found.sentence is not None, found.size) if found is not None else ()
        yield Outcome(case.label, check.error, check.allowed, *report)


def derivative_checks(op: str, target: Target) -> Iterator[Outcome]:
    """The op's gradients against numerical derivatives."""
    rerun = f"python -m tinynet gradcheck {op} --seed {SEED}"
    for case in sorted(cases_of(op, SEED, large=False), key=lambda case: _size(case.inputs)):
        result = gradcheck(case.function, case.inputs, seed=SEED, axes=AXES.get(op), rerun=rerun, raise_error=False)
        found = [i.explanation for i in result.inputs if i.wrong]
        report = "" if result else f"case '{case.label}': {result}"
        is_named = any(explanation.sentence for explanation in found)
        error = max([result.accuracy, *(explanation.accuracy for explanation in found)])
        yield Outcome(case.label, error, 1e-6, report, is_named, max((e.size for e in found), default=0))


def timed(op: str, target: Target) -> Time | None:
    """The time of a kernel at one large size, the minimum of several runs; in the emulator at a small size.

    None for the derivatives, which are not a kernel.
    """
    from ...tools.bench import machine
    from ...tools.bench.calls import case_call  # imported here, because a verdict does not need it
    from ...tools.bench.processes import timed as times_of

    if target.kernel == DERIVATIVES:
        return None
    call = case_call(op, target.kernel, **({"least": 0} if target.tier == "cuda-sim" else {}))
    arrays = call.arguments(np.random.default_rng(SEED))
    function = implementation_kernel(op, target.kernel, target.tier, target.implementation)
    with use_backend(target.tier), every_access_checked(target.tier):
        if target.tier == "cuda":
            return Time(_milliseconds_on_gpu(function, arrays, call.parameters))
        process.clock.start()
        function(*arrays, **call.parameters)  # compiles
        busy, own, start = machine.busy_seconds(), time.process_time(), time.perf_counter()
        times = times_of(lambda: function(*arrays, **call.parameters))
        by_others = machine.busy_seconds() - busy - (time.process_time() - own) - machine.busy_resolution()
        return Time(min(times), max(by_others, 0.0) / (time.perf_counter() - start))


def _milliseconds_on_gpu(function: Callable, arrays: Sequence[Any], parameters: dict[str, Any]) -> float:
    from ...backends.cuda import gpu

    arrays = map_arrays(lambda array: to_device(array, "cuda"), arrays)
    times = [gpu.timed(lambda: function(*arrays, **parameters))[1] for _ in range(10)]
    return min(times[1:])  # the first compiles


def _size(arrays: Sequence[Any]) -> int:
    """How many elements the arrays have, those in lists included."""
    return sum(_size(a) if isinstance(a, (list, tuple)) else np.size(a) for a in arrays)


@contextlib.contextmanager
def launches_noted(tier: str, noted: list) -> Iterator[None]:
    """Inside `with`, the `.cu` files and macros of the kernels that are launched are added to the list, each once."""
    if tier not in ("cuda", "cuda-sim"):
        yield
        return
    engine = importlib.import_module("tinynet.backends.cusim" if tier == "cuda-sim" else "tinynet.backends.cuda.gpu")
    launch = engine.launch

    def noting(call: KernelCall) -> None:
        build = call.source, dict(call.macros)
        if build not in noted:
            noted.append(build)
        launch(call)

    with mock.patch.object(engine, "launch", noting):
        yield
