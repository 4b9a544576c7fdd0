"""Runs a Numba kernel as plain Python and records which element is accessed by which iteration.

Compiled code with a race is right most of the time, and compiled code that reads beyond an array reads some value. Here
the same function runs uncompiled, on arrays that record every access, with a `prange` that knows the current iteration.
If two iterations access the same element and one of them writes, that is a race, even if the result is right today.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import numpy as np

GARBAGE = 1000.0  # the value that is read outside an array


@dataclass
class Log:
    """The record of a run. turn: the current iteration of a parallel loop as (loop, index); None outside of loops.

    touched: for each (array, element) the iterations that accessed it, and whether they wrote. race, outside: the
    first race and the first access outside an array, each in a sentence.
    """

    turn: tuple[int, int] | None = None
    loops: int = 0
    touched: dict[tuple[str, int], dict[tuple[int, int], bool]] = field(default_factory=dict)
    race: str | None = None
    outside: str | None = None

    def note(self, name: str, elements: np.ndarray, shape: tuple[int, ...], writes: bool) -> None:
        """The current iteration reads or writes elements (flat indices in C order)."""
        if self.turn is None or self.race:
            return
        for element in np.ravel(elements):
            turns = self.touched.setdefault((name, int(element)), {})
            turns[self.turn] = turns.get(self.turn, False) or writes
            for other, wrote in turns.items():
                if other[0] == self.turn[0] and other != self.turn and (wrote or writes):
                    place = ", ".join(str(i) for i in np.unravel_index(int(element), shape))
                    self.race = (
                        f"{_line()}: turns {other[1]} and {self.turn[1]} of the parallel loop both touch "
                        f"{name}[{place}], and at least one writes: which of them is first is left to chance"
                    )

    def prange(self, *limits: int) -> Iterator[int]:
        """Replaces Numba's prange. Inside another parallel loop it is an ordinary loop, as in Numba."""
        if self.turn is not None:
            yield from range(*limits)
            return
        self.loops += 1
        loop = self.loops
        for i in reversed(range(*limits)):  # any order of the iterations must do
            self.turn = (loop, i)
            yield i
        self.turn = None


class Watched(np.ndarray):
    """An array that records who accesses it. numbers: the flat indices of its elements in the whole array."""

    log: Log
    name: str
    whole: tuple[int, ...]
    numbers: np.ndarray | None = None

    def __array_finalize__(self, parent: Any) -> None:
        self.numbers = None  # results of arithmetic are not recorded; views made by an index are set in `_view`

    def __getitem__(self, index: Any) -> Any:
        if self.numbers is None:
            return super().__getitem__(index)
        index, inside = self._checked(index)
        if not inside:
            return GARBAGE + index
        self.log.note(self.name, self.numbers[index], self.whole, writes=False)
        part = super().__getitem__(index)
        return _view(part, self.name, self.whole, self.numbers[index], self.log) if isinstance(part, Watched) else part

    def __setitem__(self, index: Any, value: Any) -> None:
        inside = True
        if self.numbers is not None:
            index, inside = self._checked(index)
            if inside:
                self.log.note(self.name, self.numbers[index], self.whole, writes=True)
        if inside:
            super().__setitem__(index, value)

    def _checked(self, index: Any) -> tuple[Any, bool]:
        """(the index, whether it lies inside). NumPy and Numba clip slices: only numbers can lie outside."""
        parts = index if isinstance(index, tuple) else (index,)
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts = (*parts[:at], *[slice(None)] * (self.ndim - len(parts) + 1), *parts[at + 1 :])
        for axis, i in enumerate(parts):
            if not isinstance(i, slice) and not 0 <= operator.index(i) < self.shape[axis]:
                self.log.outside = self.log.outside or (
                    f"{_line()}: {self.name} has {self.shape[axis]} elements along axis {axis}, and element {i} is "
                    "asked for; Numba does not check: it takes what lies there in memory, or counts from the end"
                )
                return i, False
        return parts, True


def _view(view: Watched, name: str, whole: tuple[int, ...], numbers: np.ndarray, log: Log) -> Watched:
    view.name, view.whole, view.numbers, view.log = name, whole, numbers, log
    return view


def watched_and_compiled(functions: Mapping[str, Any], name: str, arguments: dict[str, Any], compiles: bool) -> dict:
    """Run a learner's kernel as Python, with every access watched, and compiled if that is safe and `compiles`.

    arguments: by name, the array that it fills last. Returns whether it is compiled for several threads (parallel), how
    many parallel loops ran (loops), the arrays afterwards (after), sentences on the first race and the first access
    outside an array, and the array that the compiled kernel fills (compiled), or None.
    """
    kernel = functions[name]
    parallel = bool(getattr(kernel, "targetoptions", {}).get("parallel"))
    if not parallel:
        return {"parallel": parallel}
    log, after = run_watched(kernel, arguments)
    compiled = run_compiled(kernel, *arguments.values()) if compiles and not log.outside else None
    found = {"race": log.race, "outside": log.outside, "compiled": compiled}
    return {"parallel": parallel, "loops": log.loops, "after": after, **found}


def run_watched(kernel: Callable, arguments: dict[str, Any]) -> tuple[Log, dict[str, np.ndarray]]:
    """Run a kernel compiled by Numba as Python, on copies of its arrays that are watched.

    arguments: by name, in the order of the kernel's parameters. Returns the record and the arrays afterwards.
    """
    log = Log()

    def watched(name: str, array: np.ndarray) -> Watched:
        numbers = np.arange(array.size).reshape(array.shape)
        return _view(array.copy().view(Watched), name, array.shape, numbers, log)

    given = {n: watched(n, a) if isinstance(a, np.ndarray) else a for n, a in arguments.items()}
    _as_python(kernel, log)(*given.values())
    return log, {n: np.array(a) for n, a in given.items() if isinstance(a, np.ndarray)}


def run_compiled(kernel: Callable, *arguments: Any) -> np.ndarray:
    """The last argument after the compiled kernel has changed it; the array itself stays as it is.

    The kernel is compiled for one thread, which takes a third of the time. Raises Numba's error if it cannot be
    compiled.
    """
    result = arguments[-1].copy()
    _for_one_thread(kernel)(*arguments[:-1], result)
    return result


@functools.cache
def _for_one_thread(kernel: Any) -> Callable:
    from numba import njit

    return njit(kernel.py_func)


def _as_python(kernel: Any, log: Log) -> Callable:
    """The uncompiled function with the watching `prange`; so are the compiled functions of the file that it calls."""
    function = getattr(kernel, "py_func", kernel)
    names = dict(function.__globals__)

    def uncompiled(f: FunctionType) -> Callable:
        return FunctionType(f.__code__, names, f.__name__, f.__defaults__, f.__closure__)

    for name, value in names.items():
        if hasattr(value, "py_func"):
            names[name] = uncompiled(value.py_func)
        elif getattr(value, "__name__", "") == "prange":
            names[name] = log.prange
        elif getattr(value, "__name__", "") == "numba":
            names[name] = _NumbaWith(value, log.prange)
    return uncompiled(function)


class _NumbaWith:
    """The module numba, with another `prange`."""

    def __init__(self, module: Any, prange: Callable) -> None:
        self._module = module
        self.prange = prange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _line() -> str:
    """The line of the kernel that accesses an array: the first frame outside this file."""
    frame: Any = sys._getframe(1)
    while frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"line {frame.f_lineno}"
