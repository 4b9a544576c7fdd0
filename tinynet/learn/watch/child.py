"""The process that checks and times kernels: `python -m tinynet.learn.watch.child OP TRACE`.

It reads requests, a line of JSON each, and answers each with a line:

    {"do": "list", "tiers": [...]}          -> {"targets": [...], "homes": [...], "files": [...], "failed_tiers": {...}}
    {"do": "build", "builds": [...]}        -> {}
    {"do": "check", "target": [...]}        -> {"right": ..., "error": ..., "report": ..., "files": [...], ...}
    {"do": "time", "target": [...]}         -> {"ms": ...}

or, where a kernel raises an exception, with {"failed": a sentence with file and line}. Where a kernel never comes back
or crashes, TRACE is left, in which Python's `faulthandler` has written where that was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import importlib
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ...backends.cuda.source import PACKAGE, Source
from ...backends.devices import to_device
from ...backends.registry import implementation_kernel, use_backend
from ...errors import BackendError
from ..gradcheck import gradcheck
from ..gradcheck.command import AXES
from ..gradcheck.tiers import cases_of, check_kernel, every_access_checked
from .targets import DERIVATIVES, Target, files_of, home_of, targets_of

SECONDS = 20.0  # for one kernel in one case; compiling does not count
SEED = 7
ENOUGH = 8  # numbers
LONGER = 1.0  # seconds
LONGEST = 30  # lines of an error message


# ---------------------------------------------------------------------------------------- requests
def main(op: str, trace: str) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a kernel prints must not get between the answers
    with open(trace, "w") as file:
        faulthandler.enable(file)
        clock = Clock(SECONDS, file)
        commands = {"list": listed, "build": built, "check": checked, "time": timed}
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = commands[request.pop("do")](op, clock, **request)
            except (Exception, SystemExit) as error:
                answer = {"failed": sentence(error)}
            clock.stop()
            print(json.dumps(answer), file=answers, flush=True)


def listed(op: str, clock: Clock, tiers: Sequence[str]) -> dict[str, Any]:
    """The targets of these tiers; of each its home and its files; for a tier that cannot be imported why not."""
    targets, homes, files, failed = [], [], [], {}
    for tier in tiers:
        clock.start()
        try:
            found = targets_of(op, tier)
            homes += [str(home_of(op, target)) for target in found]
            files += [_names(files_of(op, target)) for target in found]
            targets += [dataclasses.astuple(target) for target in found]
        except (Exception, SystemExit) as error:
            failed[tier] = sentence(error)
    return {"targets": targets, "homes": homes, "files": files, "failed_tiers": failed}


def built(op: str, clock: Clock, builds: Sequence[tuple[str, dict]]) -> dict[str, Any]:
    """Compile `.cu` files for the emulator, as many at a time as there are cores."""
    from ...backends.cusim.build import library

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(library, Source(path), macros, True) for path, macros in builds]:
            done.result()
    return {}


@dataclass(frozen=True)
class Outcome:
    """One case: its label, the error, how large it may be, and where it is larger the report on it.

    is_named: whether the report says which mistake gives exactly this result. size: how many numbers that has.
    """

    label: str
    error: float
    allowed: float
    report: str = ""
    is_named: bool = False
    size: int = 0

    @property
    def says(self) -> tuple[bool, bool]:
        """How much the report says, to be compared: a mistake found in one number may be chance."""
        return self.is_named and self.size >= ENOUGH, self.is_named


def checked(op: str, clock: Clock, target: Sequence[str]) -> dict[str, Any]:
    """Whether a target is right, from the smallest case on.

    Once it is wrong in one, the others are looked at for a moment longer, for one of which the report says more.
    The answer also has what the target is made from: "files", and as "builds" the `.cu` files with their macros.
    """
    this = Target(*target)
    clock.start()
    noted: list[tuple[Source, dict]] = []
    outcomes: list[Outcome] = []
    latest = math.inf
    with use_backend(this.tier), every_access_checked(this.tier), launches_noted(this.tier, noted):
        for outcome in (derivative_checks if this.kernel == DERIVATIVES else kernel_checks)(op, this):
            outcomes.append(outcome)
            if outcome.report:
                latest = min(latest, time.monotonic() + LONGER)
            if all(outcome.says) or time.monotonic() > latest:
                break
            clock.start()
    wrong = [outcome for outcome in outcomes if outcome.report]
    shown = max(wrong, key=lambda o: o.says) if wrong else max(outcomes, key=lambda o: o.error / o.allowed)
    return {
        "right": not wrong,
        "cases": len(outcomes),
        "error": shown.error,
        "allowed": shown.allowed,
        "report": f"wrong from the small case '{wrong[0].label}' on\n{shown.report}" if wrong else "",
        "files": _names(files_of(op, this, [source for source, _ in noted])),
        "builds": [[str(source.path), macros] for source, macros in noted],
    }


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


def timed(op: str, clock: Clock, target: Sequence[str]) -> dict[str, Any]:
    """Milliseconds of a kernel at one size, the least of several; in the emulator at a smaller one, with all checks.

    None for the derivatives, which are no kernel.
    """
    from ...tools.bench.calls import case_call  # not needed for a verdict, and takes a moment to import
    from ...tools.bench.processes import timed as times_of

    this = Target(*target)
    if this.kernel == DERIVATIVES:
        return {"ms": None}
    call = case_call(op, this.kernel, **({"least": 0} if this.tier == "cuda-sim" else {}))
    arrays = call.arguments(np.random.default_rng(SEED))
    function = implementation_kernel(op, this.kernel, this.tier, this.implementation)
    with use_backend(this.tier), every_access_checked(this.tier):
        if this.tier == "cuda":
            return {"ms": _milliseconds_on_gpu(function, arrays, call.parameters)}
        clock.start()
        function(*arrays, **call.parameters)  # compiles
        return {"ms": min(times_of(lambda: function(*arrays, **call.parameters)))}


def _milliseconds_on_gpu(function: Callable, arrays: Sequence[Any], parameters: dict[str, Any]) -> float:
    from ...backends.cuda import gpu

    def there(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(there, value))
        return to_device(value, "cuda") if hasattr(value, "dtype") else value

    arrays = there(arrays)
    times = [gpu.timed(lambda: function(*arrays, **parameters))[1] for _ in range(10)]
    return min(times[1:])  # the first compiles


def _size(arrays: Sequence[Any]) -> int:
    """How many numbers there are in the arrays, those in lists included."""
    return sum(_size(a) if isinstance(a, (list, tuple)) else np.size(a) for a in arrays)


def _names(files: set[Path]) -> list[str]:
    return sorted(str(file) for file in files)


# ---------------------------------------------------------------------------------------- CUDA
@contextlib.contextmanager
def launches_noted(tier: str, noted: list) -> Iterator[None]:
    """Inside `with`, the `.cu` files and macros of the kernels that are launched come into the list, each once."""
    if tier not in ("cuda", "cuda-sim"):
        yield
        return
    engine = importlib.import_module("tinynet.backends.cusim" if tier == "cuda-sim" else "tinynet.backends.cuda.gpu")
    launch = engine.launch

    def noting(source: Source, kernel: str, macros: dict, *rest: Any, **parameters: Any) -> None:
        if (source, macros) not in noted:
            noted.append((source, dict(macros)))
        launch(source, kernel, macros, *rest, **parameters)

    with mock.patch.object(engine, "launch", noting):
        yield


# ---------------------------------------------------------------------------------------- what goes wrong
class Clock:
    """Ends the process, writing down where it is, if it is not started anew or stopped within some seconds.

    While Numba compiles the clock stands still.
    """

    def __init__(self, seconds: float, file: Any) -> None:
        self.seconds, self.file = seconds, file
        self.is_running = False
        self._listens = False

    def start(self) -> None:
        """From now on there are so many seconds."""
        self.is_running = True
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=self.file)
        if "numba" in sys.modules and not self._listens:
            self._listens = True
            stop_while_compiling(self)

    def stop(self) -> None:
        """As long as it takes."""
        self.is_running = False
        faulthandler.cancel_dump_traceback_later()


def stop_while_compiling(clock: Clock) -> None:
    """Let Numba stop the clock when it begins to compile, and start it when it is done."""
    from numba.core import event

    class Listener(event.Listener):
        depth = 0

        def on_start(self, started: event.Event) -> None:
            self.depth += 1
            faulthandler.cancel_dump_traceback_later()

        def on_end(self, ended: event.Event) -> None:
            self.depth -= 1
            if self.depth == 0 and clock.is_running:
                clock.start()

    event.register("numba:compile", Listener())


def sentence(error: BaseException) -> str:
    """An exception, and where in the operations' files it was raised."""
    message = "\n".join(str(error).strip().splitlines()[:LONGEST])
    if isinstance(error, BackendError):  # of CUDA kernels, with the line of the .cu; or what is missing
        return message
    if type(error).__module__.startswith("numba."):  # how it came there follows, at length
        message = message.partition("\n\nDuring: ")[0]
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if isinstance(error, SystemExit):
        what = "this ends the whole program; return a value instead"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_place(error.filename, error.lineno or 0)}\n{what}"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if PACKAGE / "ops" in Path(frame.filename).parents]
    return f"{_place(inside[-1].filename, inside[-1].lineno)}\n{what}" if inside else what


def _place(filename: str, line: int) -> str:
    """tinynet/ops/elu/reference.py:12, and the line that stands there."""
    path = Path(filename)
    name = path.relative_to(PACKAGE.parent).as_posix() if PACKAGE in path.parents else filename
    with contextlib.suppress(OSError, IndexError):
        return f"{name}:{line}: `{path.read_text(encoding='utf-8').splitlines()[line - 1].strip()}`"
    return f"{name}:{line}"


if __name__ == "__main__":
    main(*sys.argv[1:])
