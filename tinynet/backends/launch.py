"""The one way to run a CUDA kernel, on a GPU or on the emulator.

Neither CuPy nor the GPU checks the arguments of a kernel: a kernel that reads float32 takes a float64 array as garbage
without a message, a Python float arrives as eight bytes where the kernel reads four, and if an argument is missing the
kernel reads whatever lies behind the others. So `launch` reads the C signature of the kernel, converts scalars to its
types, and refuses arrays that do not fit.

    launch(SOURCE, "elu_forward", blocks(x.size, THREADS), THREADS, x, y, x.size, alpha)

Arrays in the memory of a GPU (CuPy) run there, NumPy arrays on the emulator.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from . import memory
from .arrays import array_module, device_of
from .cuda.source import KernelCall, Parameter, Source
from .devices import common_device
from .registry import backend

Size = int | tuple[int, ...]

SCALARS = {
    "int": np.int32,
    "unsigned int": np.uint32,
    "u32": np.uint32,
    "u64": np.uint64,
    "size_t": np.uint64,
    "float": np.float32,
    "double": np.float64,
}
# The dtype of the array that a pointer may point to. Addresses of other arrays travel as u64.
POINTERS = {"u8": np.uint8, "int": np.int32, "i64": np.int64, "u32": np.uint32, "u64": np.uint64}
POINTERS |= {"float": np.float32, "float4": np.float32, "double": np.float64}
REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
GRID_LIMITS = (2**31 - 1, 65535, 65535)
MOST_THREADS = 1024  # in a block


def launch(
    source: Source,
    kernel: str,
    grid: Size,
    block: Size,
    *arguments: Any,
    shared_bytes: int = 0,
    reachable: Sequence[Any] = (),
    **macros: str | int,
) -> None:
    """Run a kernel. On a GPU this only puts it in the queue; reading a result waits for it.

    grid: blocks in x, y, z. block: threads in x, y, z, at most 1024. An empty grid runs nothing.
    arguments: in the order of the C signature; contiguous arrays for pointers (None for those marked OPTIONAL),
    numbers for scalars. The first array for a `real*` determines the macro `real`.
    shared_bytes: dynamic shared memory. reachable: arrays that the kernel reaches through a table of addresses.
    macros: of the file's variant, except `real`.

    Raises TypeError for a wrong number of arguments or a wrong dtype, ValueError for an array that is not
    contiguous or on another device, a number out of range, or a grid or block that no GPU runs.
    """
    parameters = source.signature(kernel)
    if len(arguments) != len(parameters):
        raise TypeError(
            f"{kernel}: {len(arguments)} arguments given, its signature has {len(parameters)}: "
            f"{', '.join(p.name for p in parameters)}"
        )
    real = _real_type(parameters, arguments)
    if real is not None:
        macros = {"real": REAL[real], **macros}
    source.check_variant(macros)
    converted = [_converted(kernel, p, a, real) for p, a in zip(parameters, arguments)]
    engine = _engine(kernel, [(p.name, a) for p, a in zip(parameters, arguments) if p.is_pointer and a is not None])
    grid, block = _three(grid), _three(block)
    if math.prod(grid) == 0:
        return
    _check_sizes(kernel, grid, block)
    engine.launch(KernelCall(source, kernel, macros, grid, block, converted, shared_bytes, reachable))


def blocks(n: int, threads: int) -> int:
    """How many blocks of `threads` threads it takes to have a thread for each of n elements."""
    return -(-n // threads)


def _three(size: Size) -> tuple[int, int, int]:
    size = (size,) if isinstance(size, int) else tuple(size)
    return (*size, *(1,) * (3 - len(size)))


def _check_sizes(kernel: str, grid: tuple[int, ...], block: tuple[int, ...]) -> None:
    if any(n > limit for n, limit in zip(grid, GRID_LIMITS)):
        raise ValueError(f"{kernel}: a grid of {grid} blocks; a GPU takes at most {GRID_LIMITS}")
    if not 1 <= math.prod(block) <= MOST_THREADS or min(block) < 1:
        raise ValueError(f"{kernel}: a block of {block} threads; from 1 to {MOST_THREADS} are possible")


def _real_type(parameters: Sequence[Parameter], arguments: Sequence[Any]) -> np.dtype | None:
    """The dtype that `real` stands for in this launch; None for a kernel that has no `real*`."""
    for parameter, argument in zip(parameters, arguments):
        if parameter.type == "real" and parameter.is_pointer and hasattr(argument, "dtype"):
            if argument.dtype not in REAL:
                raise TypeError(f"{parameter.name} is {argument.dtype}; float32 or float64 is needed")
            return argument.dtype
    return None


def _converted(kernel: str, parameter: Parameter, argument: Any, real: np.dtype | None) -> Any:
    """An array that fits the parameter, or a NumPy scalar of its type; None for a null pointer."""
    if not parameter.is_pointer:
        dtype = real if parameter.type == "real" else SCALARS[parameter.type]
        convert = _whole_number if type(argument) is int else _scalar
        return convert(kernel, parameter.name, argument, dtype)
    if argument is None and parameter.is_optional:
        return None
    what = f"{kernel}: {parameter.name}"
    if not hasattr(argument, "dtype") or isinstance(argument, np.generic):
        raise TypeError(f"{what} is a {type(argument).__name__}; an array is needed")
    dtype = np.dtype(real if parameter.type == "real" else POINTERS[parameter.type])
    if argument.dtype != dtype:
        raise TypeError(f"{what} is {argument.dtype}; the kernel reads {dtype}")
    if not argument.flags.c_contiguous:
        raise ValueError(f"{what} {argument.shape} is not contiguous; the kernel reads elements in C order")
    return argument


def _scalar(kernel: str, name: str, value: Any, dtype: Any) -> np.generic:
    what, dtype = f"{kernel}: {name}", np.dtype(dtype)
    if not isinstance(value, (bool, int, float, np.generic)):
        raise TypeError(f"{what} is a {type(value).__name__}; a number is needed")
    if dtype.kind in "iu":
        if not math.isfinite(value) or int(value) != value:
            raise TypeError(f"{what} is {value}; a whole number is needed")
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError(f"{what} is {value}; a number from {limits.min} to {limits.max} ({dtype}) is needed")
        return dtype.type(int(value))
    return dtype.type(value)


# Sizes are the same in every step of training. Converting the two dozen sizes of a convolution anew would take longer
# than the rest of its launch.
_whole_number = functools.lru_cache(maxsize=4096, typed=True)(_scalar)


def _engine(kernel: str, arrays: Sequence[tuple[str, Any]]) -> ModuleType:
    """The module that runs the kernel: gpu or cusim. Raises ValueError if the arrays are on different devices."""
    if common_device(kernel, dict(arrays)) == "cuda":
        from .cuda import gpu

        return gpu
    if backend() == "cuda":
        names = ", ".join(name for name, _ in arrays)
        raise ValueError(
            f"{kernel}: {names} are NumPy arrays on the CPU; backend 'cuda' needs them on the GPU: "
            "move model and data with .to('cuda')"
        )
    from . import cusim

    return cusim


# ---------------------------------------------------------------------------------------- arrays
def contiguous(array: Any) -> Any:
    """The array itself if it is contiguous, else a copy that is."""
    return array_module(array).ascontiguousarray(array)


def is_aligned(*arrays: Any, nbytes: int = 16) -> bool:
    """Whether each array starts at a multiple of `nbytes`, as a kernel that reads float4 needs."""
    return all(address(array) % nbytes == 0 for array in arrays)


def address(array: Any) -> int:
    """The address where the array begins, in the memory of its device."""
    return array.data.ptr if device_of(array) == "cuda" else array.__array_interface__["data"][0]


def empty(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """An array of arbitrary content where `like` is: from the pool of the GPU or that of the CPU."""
    if device_of(like) == "cpu":
        return memory.empty(shape, dtype)
    from .cuda import gpu

    return gpu.empty(shape, dtype)
