"""Launches a compiled kernel on the emulator, and turns what it finds wrong into an error."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cuda.source import Source
from . import build
from .findings import Finding, KernelError, Launched, describe

ORDERS = ("forward", "reversed", "shuffled")


@dataclass(frozen=True)
class Mode:
    """How kernels are run: with checks or without, and in which order threads and blocks take their turns."""

    is_checked: bool = False
    order: str = "forward"
    seed: int = 0


_mode: ContextVar[Mode] = ContextVar("cusim_mode", default=Mode())  # noqa: B039 (it is frozen)
# Elements smaller than the 4 bytes that are otherwise the smallest piece of shared memory of which a shadow is kept.
_SMALL_SHARED = re.compile(r"__shared__\s+(?:u8|bool|char|short|(?:un)?signed\s+(?:char|short))\b")
_one_at_a_time = threading.Lock()  # a library has one state


def checked(order: str = "forward", seed: int = 0) -> contextlib.AbstractContextManager[None]:
    """Inside `with`, look at every access to memory; what is wrong is raised as KernelError. Much slower.

    order, seed: see `ordered`.
    """
    return _mode_set(Mode(True, *_order(order, seed)))


def ordered(order: str, seed: int = 0) -> contextlib.AbstractContextManager[None]:
    """Inside `with`, the order in which threads and blocks take their turns: "forward", "reversed" or "shuffled".

    On a GPU there is none to count on: a kernel that is right gives the same in all. seed: of the shuffling, from 0.
    """
    return _mode_set(Mode(_mode.get().is_checked, *_order(order, seed)))


def _order(order: str, seed: int) -> tuple[str, int]:
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; it must be one of {', '.join(ORDERS)}")
    return order, seed


@contextlib.contextmanager
def _mode_set(mode: Mode) -> Iterator[None]:
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def launch(
    source: Source,
    kernel: str,
    macros: Mapping[str, str | int],
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    arguments: Sequence[np.ndarray | np.generic | None],
    shared_bytes: int = 0,
    reachable: Sequence[np.ndarray] = (),
) -> None:
    """Run a kernel to its end. `tinynet.cuda.launch` has checked what it is given, see there.

    arguments: contiguous arrays, NumPy scalars of exactly the kernel's types, None for a null pointer.
    Raises KernelError for what is wrong in the kernel, CompilerMissing where it cannot be compiled.
    """
    mode = _mode.get()
    loaded = _load(source, tuple(sorted(macros.items())), mode.is_checked)
    named = [(p.name, a) for p, a in zip(source.signature(kernel), arguments) if isinstance(a, np.ndarray)]
    named += [(f"reachable[{i}]", array) for i, array in enumerate(reachable)]
    buffers = [Buffer(array.ctypes.data, array.nbytes, min(array.itemsize, 4)) for _, array in named]
    values = [_in_memory(argument) for argument in arguments]
    request = Request(
        kernel=ctypes.cast(getattr(loaded.functions, f"cusim_call_{kernel}"), ctypes.c_void_p),
        arguments=(ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values]),
        grid=grid,
        block=block,
        shared_bytes=shared_bytes,
        order=ORDERS.index(mode.order),
        seed=mode.seed,
        is_checked=mode.is_checked,
        with_statistics=False,
        shared_cell_bytes=1 if _SMALL_SHARED.search(source.code) else 4,
        buffer_count=len(buffers),
        buffers=(Buffer * len(buffers))(*buffers),
    )
    with _one_at_a_time:
        loaded.functions.cusim_launch(ctypes.byref(request))
        found = _findings(loaded)
    if found:
        raise KernelError(describe(found, Launched(source, kernel, named, loaded.path)))


def _in_memory(argument: np.ndarray | np.generic | None) -> np.ndarray:
    """The bytes of an argument as a kernel gets them: the address of an array, or the number itself."""
    if argument is None:
        return np.zeros((), np.uint64)
    return np.array(argument.ctypes.data, np.uint64) if isinstance(argument, np.ndarray) else np.array(argument)


def _findings(loaded: Loaded) -> list[Finding]:
    first = ctypes.POINTER(Finding)()
    count = loaded.functions.cusim_findings(ctypes.byref(first))
    return [Finding.from_buffer_copy(first[i]) for i in range(count)]


# ---------------------------------------------------------------------------------------- the library
@dataclass(frozen=True)
class Loaded:
    """A library of kernels in memory, and where it lies on disk."""

    path: Path
    functions: ctypes.CDLL


@functools.cache
def _load(source: Source, macros: tuple[tuple[str, str | int], ...], is_checked: bool) -> Loaded:
    path = build.library(source, dict(macros), is_checked)
    return Loaded(path, ctypes.CDLL(str(path)))


class Buffer(ctypes.Structure):
    """The same as in state.h."""

    _fields_ = (("start", ctypes.c_size_t), ("bytes", ctypes.c_size_t), ("cell_bytes", ctypes.c_int))


class Request(ctypes.Structure):
    """The same as in state.h."""

    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_size_t),
        ("order", ctypes.c_int),
        ("seed", ctypes.c_uint64),
        ("is_checked", ctypes.c_int),
        ("with_statistics", ctypes.c_int),
        ("shared_cell_bytes", ctypes.c_int),
        ("buffer_count", ctypes.c_int),
        ("buffers", ctypes.POINTER(Buffer)),
    )
