"""The GPU: kernels compiled for it, launched through CuPy, and its memory.

CuPy does four things for tinynet: it is the NumPy of arrays on the GPU, keeps a pool of the GPU's memory, loads
compiled kernels and puts them in the queue (its current stream). Not CuPy but `nvrtc.py` compiles the kernels: so the
tests compile the same code on machines without a GPU, and the compiler's messages name the lines of the `.cu` file.

A launch returns at once. Reading a result back waits until the GPU has computed it.
"""

from __future__ import annotations

import functools
import hashlib
import math
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BackendError
from ...files import cache_folder
from ..builds import undamaged, with_digest
from . import detect, nvrtc
from .source import TENSOR_CORES, KernelCall, Source, compiler_options

try:
    import cupy
except ImportError as error:
    raise detect.GpuMissing(f"CuPy is installed but cannot be imported: {error}") from error

NULL = np.uint64(0)  # CuPy does not pass None as a null pointer
STATIC_SHARED = 48 * 1024  # bytes of shared memory that every kernel may have; a kernel must ask for more
TENSOR_CORE_ARCHITECTURE = 80  # the first with tensor cores for TF32

# The kernels launched since a result was last read back. If reading fails, one of them failed.
_in_queue: deque[str] = deque(maxlen=12)


# ---------------------------------------------------------------------------------------- launching
def launch(call: KernelCall) -> None:
    """Put a kernel in the queue of CuPy's current stream.

    `call.reachable` is not needed here: the pool reuses memory in the order of the stream, so no array that is freed
    now is overwritten before the kernels in the queue have run.
    Raises CompileError for a kernel with mistakes, BackendError for a kernel that this GPU cannot run.
    """
    kernel, shared_bytes = call.kernel, call.shared_bytes
    function = _function(call.source, kernel, tuple(sorted(call.macros.items())))
    if shared_bytes > STATIC_SHARED and function.max_dynamic_shared_size_bytes < shared_bytes:
        _allow_shared_memory(function, kernel, shared_bytes)
    _in_queue.append(kernel)
    arguments = tuple(NULL if a is None else a for a in call.arguments)
    try:
        function(call.grid, call.block, arguments, shared_mem=shared_bytes)
    except cupy.cuda.driver.CUDADriverError as error:
        threads, most = math.prod(call.block), function.max_threads_per_block
        if threads <= most:
            raise _failure(error) from error
        raise BackendError(
            f"{kernel}: a block of {threads} threads is too large: with the {function.num_regs} registers that each "
            f"takes, or by the __launch_bounds__ of its signature, {most} are the most"
        ) from error


@functools.cache
def _function(source: Source, kernel: str, macros: tuple[tuple[str, str | int], ...]) -> Any:
    """A compiled kernel: a function of grid, block and arguments."""
    return _module(source, macros).get_function(kernel)


@functools.cache
def _module(source: Source, macros: tuple[tuple[str, str | int], ...]) -> Any:
    """A `.cu` file in one variant, compiled when one of its kernels is launched for the first time, and loaded."""
    architecture = detect.require_gpu().architecture
    if TENSOR_CORES in dict(macros) and architecture < TENSOR_CORE_ARCHITECTURE:
        raise BackendError(
            f"precision 'tf32' needs a GPU of compute capability 8.0 or later (Ampere, 2020); "
            f"{detect.require_gpu().name} is of {architecture / 10}: leave it at 'float32'"
        )
    return cupy.RawModule(path=str(_compiled(source, dict(macros), architecture)))


def _compiled(source: Source, macros: Mapping[str, str | int], architecture: int) -> Path:
    """The file with the compiled kernels, compiled now or in an earlier run.

    Its name holds a digest of what it was made from, so an edited kernel or header, other macros, another compiler or
    another GPU make another file.
    """
    compiler = nvrtc.load(detect.require_gpu().cuda[0])
    made_from = (source.code, source.name, nvrtc.OPTIONS, compiler_options(macros), architecture, compiler.version)
    digest = hashlib.sha256(repr(made_from).encode()).hexdigest()[:24]
    name = f"{source.path.stem}-sm_{architecture}-{digest}"
    folder = cache_folder() / "cuda"
    kept = undamaged(folder, name, ".cubin") or undamaged(folder, name, ".ptx")
    if kept:
        return kept
    print(f"tinynet: compiling {source.short_name} for sm_{architecture} ...", file=sys.stderr, flush=True)
    compiled = compiler.compile(source.code, source.name, architecture, macros)
    suffix = ".ptx" if compiled.is_ptx else ".cubin"
    try:
        return with_digest(folder, name, suffix, compiled.binary)
    except OSError:  # the folder is read-only or the disk full: the next run compiles again
        return with_digest(Path(_temporary_folder().name), name, suffix, compiled.binary)


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    """A folder that is deleted when the process ends."""
    return tempfile.TemporaryDirectory()


def _allow_shared_memory(function: Any, kernel: str, nbytes: int) -> None:
    """Let a kernel have more than 48 kB of dynamic shared memory. Raises BackendError if the GPU has less."""
    most = cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
    if nbytes > most:
        raise BackendError(f"{kernel} needs {nbytes:,} bytes of shared memory in each block; this GPU has {most:,}")
    function.max_dynamic_shared_size_bytes = nbytes


# ---------------------------------------------------------------------------------------- arrays
def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of arbitrary content on the GPU, from CuPy's pool.

    Raises MemoryError with the bytes that were asked for, those free on the card and those the pool holds.
    """
    try:
        return cupy.empty(shape, dtype)
    except MemoryError:
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        raise MemoryError(f"no GPU memory for a result of shape {shape} {np.dtype(dtype)}: {_usage(nbytes)}") from None


def _usage(asked: int) -> str:
    free, total = cupy.cuda.runtime.memGetInfo()
    pool = cupy.get_default_memory_pool()
    return (
        f"{asked:,} bytes asked, {free:,} of {total:,} free on the card, {pool.total_bytes():,} held by tinynet's pool "
        f"({pool.used_bytes():,} in arrays)"
    )


def from_cpu(array: np.ndarray) -> Any:
    """A copy on the GPU. Raises MemoryError as `empty` does."""
    try:
        return cupy.asarray(array)
    except MemoryError:
        raise MemoryError(f"no GPU memory for an array of shape {array.shape}: {_usage(array.nbytes)}") from None


def to_cpu(array: Any) -> np.ndarray:
    """A copy on the CPU, once the kernels in the queue have run.

    Raises BackendError if one of them failed. The GPU does not say which one, so the message names all of them.
    """
    try:
        result = cupy.asnumpy(array)
    except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
        raise _failure(error) from error
    _in_queue.clear()
    return result


# ---------------------------------------------------------------------------------------- measuring
def timed(step: Callable[[], float]) -> tuple[float, float]:
    """What a step returns, and the milliseconds it took, measured by the GPU's clock."""
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record()
    value = step()
    end.record()
    end.synchronize()
    return value, cupy.cuda.get_elapsed_time(begin, end)


def peak_mb() -> float:
    """The most memory that arrays have taken so far, in MB: the pool keeps all memory it has taken."""
    return cupy.get_default_memory_pool().total_bytes() / 1e6


def version() -> str:
    """The version of CuPy."""
    return cupy.__version__


# ---------------------------------------------------------------------------------------- failures
def _failure(error: Exception) -> BackendError:
    """The exception for an error of a kernel. CuPy raises the error at a later call, without the name of the kernel."""
    return BackendError(
        f"the GPU stopped: {error}\n"
        f"  kernels that ran since a result was last read: {', '.join(dict.fromkeys(_in_queue)) or 'none of tinynet'}\n"
        "  To see which line of which kernel failed, run the same on the emulator: backend 'cuda-sim', inside\n"
        "  `with tinynet.cusim.checked():`. Then restart this program: the GPU refuses it from now on."
    )
