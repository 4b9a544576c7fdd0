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
import operator
import re
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

# The dtype of a scalar, or of the array that a pointer points to. Addresses of other arrays travel as u64.
DTYPES = {"u8": np.uint8, "u32": np.uint32, "u64": np.uint64, "i64": np.int64, "size_t": np.uint64}
DTYPES |= {"float": np.float32, "double": np.float64, "bool": np.bool_}
INTEGERS = {"char": "b", "short": "h", "": "i", "long": "l", "long long": "q"}  # NumPy's letters for the types of C
VECTORS = re.compile(r"(float|double|int|uint)[234]")  # only pointers to them
REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
GRID_LIMITS = (2**31 - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)
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

    grid: blocks in x, y, z. block: threads in x, y, z, at most 1024 together and 64 in z. An empty grid runs nothing.
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
    else:
        real = np.dtype(np.float64 if macros.get("real") == "double" else np.float32)
    source.check_variant(macros)
    converted = [_converted(kernel, p, a, real) for p, a in zip(parameters, arguments)]
    engine = _engine(kernel, [(p.name, a) for p, a in zip(parameters, arguments) if p.is_pointer and a is not None])
    grid, block = _three(f"{kernel}: grid", grid), _three(f"{kernel}: block", block)
    if math.prod(grid) == 0:
        return
    _check_sizes(kernel, grid, block)
    engine.launch(KernelCall(source, kernel, macros, grid, block, converted, shared_bytes, reachable))


def blocks(n: int, threads: int) -> int:
    """How many blocks of `threads` threads it takes to have a thread for each of n elements."""
    return -(-n // threads)


def _three(what: str, size: Size) -> tuple[int, int, int]:
    if type(size) is int:
        return size, 1, 1
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size,)
    try:
        x, y, z = map(operator.index, (*sizes, *(1,) * (3 - len(sizes))))
    except (TypeError, ValueError):
        raise TypeError(f"{what} is {size!r}; a whole number or up to three (x, y, z) are needed") from None
    return x, y, z


def _check_sizes(kernel: str, grid: tuple[int, ...], block: tuple[int, ...]) -> None:
    if any(not 0 <= n <= limit for n, limit in zip(grid, GRID_LIMITS)):
        raise ValueError(f"{kernel}: a grid of {grid} blocks; a GPU takes at most {GRID_LIMITS}")
    if any(not 1 <= n <= limit for n, limit in zip(block, BLOCK_LIMITS)) or math.prod(block) > MOST_THREADS:
        raise ValueError(
            f"{kernel}: a block of {block} threads; from 1 to {MOST_THREADS} are possible, and at most "
            f"{BLOCK_LIMITS} in x, y and z"
        )


@functools.cache
def _dtype(kernel: str, parameter: Parameter) -> np.dtype:
    """The dtype of a parameter or of the array that it points to. Raises TypeError for a type that is not known."""
    words = parameter.type.split()
    if set(words) <= {"signed", "unsigned", "char", "short", "int", "long"}:
        letter = INTEGERS.get(" ".join(word for word in words if word in ("char", "short", "long")))
        if letter:
            return np.dtype(letter.upper() if "unsigned" in words else letter)
    vector = VECTORS.fullmatch(parameter.type) if parameter.is_pointer else None
    if vector:
        return np.dtype({"uint": np.uint32, "int": np.int32}.get(vector[1]) or DTYPES[vector[1]])
    if parameter.type not in DTYPES:
        raise TypeError(
            f"{kernel}: {parameter.name} has the type `{parameter.type}`, and launch cannot convert an argument to it; "
            f"it knows real, {', '.join(DTYPES)} and the integer types of C, and pointers to vectors such as float4"
        )
    return np.dtype(DTYPES[parameter.type])


def _real_type(parameters: Sequence[Parameter], arguments: Sequence[Any]) -> np.dtype | None:
    """The dtype that `real` stands for in this launch; None for a kernel that has no `real*`."""
    for parameter, argument in zip(parameters, arguments):
        if parameter.type == "real" and parameter.is_pointer and hasattr(argument, "dtype"):
            if argument.dtype not in REAL:
                raise TypeError(f"{parameter.name} is {argument.dtype}; float32 or float64 is needed")
            return argument.dtype
    return None


def _converted(kernel: str, parameter: Parameter, argument: Any, real: np.dtype) -> Any:
    """An array that fits the parameter, or a NumPy scalar of its type; None for a null pointer."""
    dtype = real if parameter.type == "real" else _dtype(kernel, parameter)
    if not parameter.is_pointer:
        convert = _whole_number if type(argument) is int else _scalar
        return convert(kernel, parameter.name, argument, dtype)
    if argument is None and parameter.is_optional:
        return None
    what = f"{kernel}: {parameter.name}"
    if not hasattr(argument, "dtype") or isinstance(argument, np.generic):
        raise TypeError(f"{what} is a {type(argument).__name__}; an array is needed")
    if argument.dtype != dtype:
        raise TypeError(f"{what} is {argument.dtype}; the kernel reads {dtype}")
    if not argument.flags.c_contiguous:
        raise ValueError(f"{what} {argument.shape} is not contiguous; the kernel reads elements in C order")
    return argument


def _scalar(kernel: str, name: str, value: Any, dtype: Any) -> np.generic:
    what, dtype = f"{kernel}: {name}", np.dtype(dtype)
    if not isinstance(value, (bool, int, float, np.generic)):
        raise TypeError(f"{what} is a {type(value).__name__}; a number is needed")
    if dtype.kind in "iub":
        if not math.isfinite(value) or int(value) != value:
            raise TypeError(f"{what} is {value}; a whole number is needed")
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if not low <= value <= high:
            raise ValueError(f"{what} is {value}; a number from {low} to {high} ({dtype}) is needed")
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
    # NumPy would make a 1-d array of a 0-d array, which is contiguous.
    return array if array.flags.c_contiguous else array_module(array).ascontiguousarray(array)


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
