"""Puts a learner's functions into the framework: kernels under the name `mine`, others in the place of tinynet's own.

python -m tinynet exercises use conv-05                        the small U-Net learns for a few steps with it
python -m tinynet exercises use conv-05 script.py --epochs 1   a script of your own runs with it

with tinynet.learn.exercises.mine("conv-05"):                        and in Python
    loss(model(x), masks).backward()
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import runpy
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...backends import registry
from ...ops._shared.epilogue import PLAIN
from ...ops._shared.geometry import Geometry
from .demonstrations import NETS, STEPS, Losses
from .exercise import Exercise, exercise
from .guard import functions_of
from .heat_maps import show_heat_maps
from .runner import check_file
from .verdict import EXIT_CODES, RIGHT, WRONG

# Parameters that the exercises leave out, with the value that has no effect; and those that only change the speed.
WITHOUT = {"epilogue": PLAIN, "pos_weight": 1.0, "b": None}
PROMISES = {"cell"}


@contextlib.contextmanager
def mine(id: str, file: str | Path | None = None) -> Iterator[Counter]:
    """Inside `with`, tinynet runs the learner's kernels of this exercise, on the CPU.

    file: the learner's, my_exercises/ID.py by default. The kernels become an implementation of their op with the name
    `mine`, which `registry.implementations` lists and `use_kernels(op, "mine")` chooses, also outside of the block.
    Functions of exercises that are no kernels, such as NMS, take the place of tinynet's in their module.
    Yields a Counter of their calls, by name.
    Raises ValueError for an exercise whose functions have no place in tinynet, OSError if there is no file.
    """
    this, learners = exercise(id), learner_functions(id, file)
    calls: Counter = Counter()
    if hasattr(this.module, "PLACES"):
        with contextlib.ExitStack() as stack:
            for name, module in this.module.PLACES.items():
                stack.enter_context(_replaced(module, name, learners[name], calls))
            yield calls
        return
    op, own = kernels_of_learner(this, learners, calls)
    register(op, own)
    # As functions, too: an operation that is fused with others runs alone if one of its kernels is replaced.
    with registry.use_kernels(op, "mine", **own):
        yield calls


def learner_functions(id: str, file: str | Path | None = None) -> dict[str, Any]:
    """What a learner's file defines, by name. Raises OSError if there is no file."""
    path = Path(file or Path("my_exercises", f"{id}.py"))
    return functions_of(path.read_text(encoding="utf-8-sig"), str(path), exercise(id).imports)


@contextlib.contextmanager
def _replaced(module: str, name: str, function: Callable, calls: Counter) -> Iterator[None]:
    """Inside `with`, the module has this function under the name, and its calls are counted."""

    @functools.wraps(function)
    def counted(*arguments: Any, **parameters: Any) -> Any:
        calls[name] += 1
        return function(*arguments, **parameters)

    place = importlib.import_module(module)
    original = getattr(place, name)
    setattr(place, name, counted)
    try:
        yield
    finally:
        setattr(place, name, original)


def kernels_of_learner(this: Exercise, learners: Mapping[str, Any], calls: Counter) -> tuple[str, dict[str, Callable]]:
    """(op, the learner's kernels by the names in that op). Raises ValueError for an exercise that is not a kernel."""
    op = getattr(this.module, "OP", None)
    if op is None:
        raise ValueError(f"{this.id} is not a kernel or another function of tinynet: it cannot take the place of one")
    if hasattr(this.module, "kernels"):
        own = this.module.kernels(learners)
    else:
        own = {name: learners[name] for name in this.functions}
    definitions = {name: registry.implementation_kernel(op, name, "reference") for name in own}
    return op, {name: as_kernel(this.id, definitions[name], own[name], calls) for name in own}


def as_kernel(id: str, definition: Callable, function: Callable, calls: Counter) -> Callable:
    """A learner's function as a kernel: in the dtype of its arrays, without the parameters that it lacks.

    definition: of the kernel. A parameter that the learner's function lacks may only have the value in WITHOUT, and
    convolutions must have dilation 1 and one group; otherwise a call raises ValueError. Counts the calls.
    """
    known = inspect.signature(function).parameters
    positions = sum(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in known.values())
    signature = inspect.signature(definition)

    def refuse(parameter: str, value: Any) -> None:
        raise ValueError(f"{id}: your kernel has no {parameter}, and {parameter} = {value} is asked for")

    @functools.wraps(function)
    def kernel(*arguments: Any, **parameters: Any) -> Any:
        calls[definition.__name__] += 1
        given = list(signature.bind(*arguments, **parameters).arguments.items())
        positional = [value for _, value in given[:positions]]
        for name, value in given[positions:]:
            if name not in known and name not in PROMISES and value != WITHOUT[name]:
                refuse(name, value)
        for geometry in (value for value in positional if isinstance(value, Geometry)):
            if set(geometry.dilation) != {1}:
                refuse("dilation", geometry.dilation)
            if geometry.groups != 1:
                refuse("groups", geometry.groups)
            if isinstance(positional[0], tuple):  # the inputs of a skip connection
                positional[0] = np.concatenate(positional[0], axis=-1)
        named = {name: value for name, value in given[positions:] if name in known}
        arrays = [a for a in positional if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
        return _cast(function(*positional, **named), arrays[0].dtype if arrays else None)

    return kernel


def _cast(result: Any, dtype: np.dtype | None) -> Any:
    """The result with real numbers in the dtype of the arguments. None for a kernel that works in place."""
    if result is None or isinstance(result, tuple):
        return result and tuple(_cast(r, dtype) for r in result)
    result = np.asarray(result)
    return result.astype(dtype, copy=False) if result.dtype.kind == "f" and dtype is not None else result


def register(op: str, own: Mapping[str, Callable]) -> None:
    """Add the implementation `mine` to the CPU tier of an op, or replace the one there is."""
    module = registry.tier_module(op, "cpu")
    if not hasattr(module, "IMPLEMENTATIONS"):
        module.IMPLEMENTATIONS = {"default": {}}
    default = next(iter(module.IMPLEMENTATIONS.values()))  # of the kernels that the learner has not written
    module.IMPLEMENTATIONS["mine"] = {**default, **own}
    registry.implementation_kernel.cache_clear()


# ---------------------------------------------------------------------------------------- the command
def use_in(id: str, file: Path, script: Sequence[str]) -> int:
    """Check the file; if it is right, run the script, or the demonstration, with it. Returns the exit code."""
    verdict = check_file(id, file)
    if verdict.status != RIGHT:
        print(verdict)
        return verdict.exit_code
    if getattr(exercise(id).module, "USE", None) == "heat_maps" and not script:
        print(f"{id} is right.\n", flush=True)
        return 0 if show_heat_maps(learner_functions(id, file)) else EXIT_CODES[WRONG]
    with mine(id, file):
        if script:
            sys.argv = list(script)
            sys.path.insert(0, str(Path(script[0]).resolve().parent))
            runpy.run_path(script[0], run_name="__main__")
            return 0
    return demonstrate(id, file)


def demonstrate(id: str, file: Path) -> int:
    """Train a net for a few steps, with tinynet's functions and with the learner's, and show both losses."""
    title, losses = NETS[getattr(exercise(id).module, "USE", "unet")]
    print(f"{id} is right. {title}, {STEPS} steps:\n", flush=True)
    print("step   loss with tinynet's functions   with yours")
    theirs, their_seconds = _timed(losses())
    with mine(id, file) as calls:
        yours, your_seconds = _timed(losses())
    for step, (a, b) in enumerate(zip(theirs, yours), 1):
        print(f"{step:4}   {a:29.6f}   {b:10.6f}")
    print(f"\n{their_seconds * 1e3:.0f} ms a step with tinynet's functions, {your_seconds * 1e3:.0f} ms with yours")
    if not calls:
        print("The net never called your function: it has no such layer. Give a script that uses it.")
    print("".join(f"{name} was called {n} times\n" for name, n in calls.items()), end="")
    if not np.allclose(theirs, yours, rtol=1e-3):
        print("The losses differ: your function does something else in float32, or at these sizes.")
        return EXIT_CODES[WRONG]
    return 0


def _timed(losses: Losses) -> tuple[list[float], float]:
    """(the loss of each step, seconds of the fastest)."""
    values, seconds, begin = [], [], time.perf_counter()
    for loss in losses:
        values.append(loss)
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    return values, min(seconds)
