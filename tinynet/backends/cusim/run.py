"""Launches a compiled kernel on the emulator, and turns what it finds wrong into an error."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..context import set_inside
from ..cuda.source import KernelCall, Source
from . import build
from .apart import apart
from .findings import Finding, KernelError, Launched, describe
from .places import variables

ORDERS = ("forward", "reversed", "shuffled")


@dataclass(frozen=True)
class Mode:
    """How kernels are run: with checks or without, and in which order threads and blocks take their turns."""

    is_checked: bool = False
    order: str = "forward"
    seed: int = 0


_mode: ContextVar[Mode] = ContextVar("cusim_mode", default=Mode())  # noqa: B039 (it is frozen)
_rows: ContextVar[list | None] = ContextVar("cusim_rows", default=None)
SHADOW_CELL = 4  # bytes; the smallest piece of memory of which the checks keep a shadow, where no element is smaller
_SMALL = re.compile(r"(?:__shared__|__device__)\s+(?:u8|bool|char|short|(?:un)?signed\s+(?:char|short))\b")
STATIC_SHARED = 48 * 1024  # bytes of __shared__ arrays that a block may have
MOST_SHARED = 227 * 1024  # with dynamic shared memory, on the GPUs that have most (compute capability 9.0)
_one_at_a_time = threading.Lock()  # a library has one state


def checked(order: str = "forward", seed: int = 0) -> contextlib.AbstractContextManager[None]:
    """Inside `with`, look at every access to memory; what is wrong is raised as KernelError. Much slower.

    order, seed: see `ordered`.
    """
    return set_inside(_mode, Mode(True, *_order(order, seed)))


def ordered(order: str, seed: int = 0) -> contextlib.AbstractContextManager[None]:
    """Inside `with`, the order in which threads and blocks take their turns: "forward", "reversed" or "shuffled".

    On a GPU there is none to count on: a kernel that is right gives the same in all. seed: of the shuffling, from 0.
    """
    return set_inside(_mode, Mode(_mode.get().is_checked, *_order(order, seed)))


def _order(order: str, seed: int) -> tuple[str, int]:
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; it must be one of {', '.join(ORDERS)}")
    return order, seed


@contextlib.contextmanager
def with_rows() -> Iterator[list[tuple[Launched, list[Row]]]]:
    """Inside `with`, count the accesses of checked kernels. The list given gets an entry for each launch."""
    rows: list[tuple[Launched, list[Row]]] = []
    with set_inside(_rows, rows):
        yield rows


def launch(call: KernelCall) -> None:
    """Run a kernel to its end. The arrays of `call` are NumPy arrays.

    Raises KernelError for mistakes in the kernel, CompilerMissing if it cannot be compiled.
    """
    mode, rows = _mode.get(), _rows.get()
    loaded = _load(call.source, tuple(sorted(call.macros.items())), mode.is_checked)
    _check_shared_memory(call, loaded.path)
    parameters = call.source.signature(call.kernel)
    named = [(p.name, a) for p, a in zip(parameters, call.arguments) if isinstance(a, np.ndarray)]
    named += [(f"reachable[{i}]", array) for i, array in enumerate(call.reachable)]
    arrays = [array for _, array in named]
    with _one_at_a_time, _addresses(arrays, call.reachable, mode) as addresses:
        buffers = [Buffer(at, a.nbytes, min(a.itemsize, SHADOW_CELL)) for at, a in zip(addresses, arrays)]
        values = _in_memory(call.arguments, addresses)
        request = Request(
            kernel=ctypes.cast(getattr(loaded.functions, f"cusim_call_{call.kernel}"), ctypes.c_void_p),
            arguments=(ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values]),
            grid=call.grid,
            block=call.block,
            shared_bytes=call.shared_bytes,
            order=ORDERS.index(mode.order),
            seed=mode.seed,
            is_checked=mode.is_checked,
            with_statistics=rows is not None,
            declared_cell_bytes=1 if _SMALL.search(call.source.code) else SHADOW_CELL,
            buffer_count=len(buffers),
            buffers=(Buffer * len(buffers))(*buffers),
        )
        loaded.functions.cusim_launch(ctypes.byref(request))
        found = _copied(Finding, loaded.functions.cusim_findings)
        launched = Launched(call.source, call.kernel, named, loaded.path)
        if rows is not None:
            rows.append((launched, _copied(Row, loaded.functions.cusim_statistics)))
    if found:
        raise KernelError(describe(found, launched))


def _check_shared_memory(call: KernelCall, library: Path) -> None:
    """Raise KernelError for more shared memory than a GPU gives a block."""
    own, most = _static_shared(library, call.kernel), STATIC_SHARED
    if own <= STATIC_SHARED:
        own, most = own + call.shared_bytes, MOST_SHARED
    if own > most:
        kind = "__shared__ arrays" if most == STATIC_SHARED else "shared memory, static and dynamic together"
        raise KernelError(
            f"the kernel {call.kernel} of {call.source.name} has {own:,} bytes of {kind} in each block; a GPU has "
            f"{most:,}. Make the arrays smaller, or declare one as `extern __shared__`, which may have more than 48 kB"
        )


@functools.cache
def _static_shared(library: Path, kernel: str) -> int:
    """The bytes of the kernel's own __shared__ arrays, or of the largest array that a function of the file declares.

    Which of these functions the kernel calls is not known, so the sum is what it needs at least.
    """
    sized = [(name.rpartition("::")[0], size) for _, size, name in variables(library, "cusim_shared")]
    own = sum(size for function, size in sized if function == kernel)
    return max([own, *(size for function, size in sized if "(" in function and size > STATIC_SHARED)])


def _addresses(
    arrays: Sequence[np.ndarray], reachable: Sequence[np.ndarray], mode: Mode
) -> contextlib.AbstractContextManager[list[int]]:
    """Where the kernel is to find the arrays. To those in a table of addresses it comes by itself: they must stay."""
    if mode.is_checked:
        # What is counted must not depend on where NumPy happened to put the arrays.
        return apart(arrays, in_place=reachable, as_on_gpu=_rows.get() is not None)
    return contextlib.nullcontext([array.ctypes.data for array in arrays])


def _in_memory(arguments: Sequence[np.ndarray | np.generic | None], addresses: Sequence[int]) -> list[np.ndarray]:
    """The bytes of each argument as a kernel gets them: the address of an array, or the number itself."""
    following = iter(addresses)
    return [
        np.array(next(following), np.uint64)
        if isinstance(argument, np.ndarray)
        else np.array(np.uint64(0) if argument is None else argument)
        for argument in arguments
    ]


Copied = TypeVar("Copied", bound=ctypes.Structure)


def _copied(kind: type[Copied], function: Callable) -> list[Copied]:
    """The list that a function of the library gives: it sets a pointer and returns how many there are."""
    first = ctypes.POINTER(kind)()
    count = function(ctypes.byref(first))
    return [kind.from_buffer_copy(first[i]) for i in range(count)]


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


class Row(ctypes.Structure):
    """The accesses of one instruction; the same as in statistics.cpp."""

    _fields_ = (
        ("code_offset", ctypes.c_uint64),
        ("is_shared", ctypes.c_int),
        ("is_write", ctypes.c_int),
        ("accesses", ctypes.c_int64),
        ("cost", ctypes.c_int64),
        ("ideal", ctypes.c_int64),
    )


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
        ("declared_cell_bytes", ctypes.c_int),
        ("buffer_count", ctypes.c_int),
        ("buffers", ctypes.POINTER(Buffer)),
    )
