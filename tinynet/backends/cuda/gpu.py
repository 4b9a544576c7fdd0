"""The GPU: kernels compiled for it, launched through CuPy, and its memory.

CuPy does four things for tinynet: it is the NumPy of arrays on the GPU, keeps a pool of the GPU's memory, loads
compiled kernels and puts them in the queue (its current stream). Compiling is left to our own `nvrtc.py`: what runs is
then what the tests compile on machines without a GPU, and the compiler's messages name the student's own lines.

A launch returns at once. Whoever reads a result back waits until the queue has come to it.
"""

from __future__ import annotations

import functools
import hashlib
import math
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BackendError
from ...files import atomic_path, cache_folder
from . import detect, nvrtc
from .source import TENSOR_CORES, Source, compiler_options

try:
    import cupy
except ImportError as error:
    raise detect.GpuMissing(f"CuPy is installed but cannot be imported: {error}") from error

NULL = np.uint64(0)  # CuPy passes None as something else than a null pointer
STATIC_SHARED = 48 * 1024  # bytes of shared memory that every kernel may have; for more it has to be asked
TENSOR_CORE_ARCHITECTURE = 80  # the first whose tensor cores know TF32

# The kernels in the queue since something was last read back: one of them failed if reading fails.
_in_queue: deque[str] = deque(maxlen=12)


# ---------------------------------------------------------------------------------------- launching
def launch(
    source: Source,
    kernel: str,
    macros: Mapping[str, str | int],
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    arguments: Sequence[Any],
    shared_bytes: int,
    reachable: Sequence[Any],
) -> None:
    """Put a kernel in the queue of CuPy's current stream; see `launch.launch`, which has checked everything.

    reachable: not needed here. The pool hands memory on in the order of the stream: an array that dies now is not
    overwritten before the kernels that are queued already have run.
    Raises CompileError for a kernel with mistakes, BackendError for one that this GPU cannot run.
    """
    function = _function(source, kernel, tuple(sorted(macros.items())))
    if shared_bytes > STATIC_SHARED and function.max_dynamic_shared_size_bytes < shared_bytes:
        _allow_shared_memory(function, kernel, shared_bytes)
    _in_queue.append(kernel)
    try:
        function(grid, block, tuple(NULL if a is None else a for a in arguments), shared_mem=shared_bytes)
    except cupy.cuda.driver.CUDADriverError as error:
        threads, most = math.prod(block), function.max_threads_per_block
        if threads <= most:
            raise _failure(error) from error
        raise BackendError(
            f"{kernel}: a block of {threads} threads is too large: with the {function.num_regs} registers that each "
            f"takes, or by the __launch_bounds__ of its signature, {most} are the most"
        ) from error


@functools.cache
def _function(source: Source, kernel: str, macros: tuple[tuple[str, str | int], ...]) -> Any:
    """A kernel on the GPU, to be called with grid, block and arguments."""
    return _module(source, macros).get_function(kernel)


@functools.cache
def _module(source: Source, macros: tuple[tuple[str, str | int], ...]) -> Any:
    """A `.cu` file in one variant, compiled and loaded. Nothing is compiled before a kernel of it is launched."""
    architecture = detect.require_gpu().architecture
    if TENSOR_CORES in dict(macros) and architecture < TENSOR_CORE_ARCHITECTURE:
        raise BackendError(
            f"precision 'tf32' needs a GPU of compute capability 8.0 or later (Ampere, 2020); "
            f"{detect.require_gpu().name} is of {architecture / 10}: leave it at 'float32'"
        )
    return cupy.RawModule(path=str(_compiled(source, dict(macros), architecture)))


def _compiled(source: Source, macros: Mapping[str, str | int], architecture: int) -> Path:
    """The file with the compiled kernels, made now unless it is there from an earlier run.

    Its name says what it was made from, by a digest: an edited kernel or header, other macros, another compiler or
    another GPU make another file.
    """
    compiler = nvrtc.load(detect.require_gpu().cuda[0])
    made_from = (source.code, source.name, nvrtc.OPTIONS, compiler_options(macros), architecture, compiler.version)
    digest = hashlib.sha256(repr(made_from).encode()).hexdigest()[:24]
    name = f"{source.path.stem}-sm_{architecture}-{digest}"
    folder = cache_folder() / "cuda"
    for path in (folder / f"{name}.cubin", folder / f"{name}.ptx"):
        if path.exists():
            return path
    print(f"tinynet: compiling {source.short_name} for sm_{architecture} ...", file=sys.stderr, flush=True)
    compiled = compiler.compile(source.code, source.name, architecture, macros)
    name += ".ptx" if compiled.is_ptx else ".cubin"
    try:
        return _written(folder / name, compiled.binary)
    except OSError:  # the folder is not ours to write to, or the disk is full: not kept then
        return _written(Path(_temporary_folder().name) / name, compiled.binary)


def _written(path: Path, content: bytes) -> Path:
    """Write a file in one step, so that a second process never finds half of it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    """A folder that is deleted when the process ends."""
    return tempfile.TemporaryDirectory()


def _allow_shared_memory(function: Any, kernel: str, nbytes: int) -> None:
    """Let a kernel have more than 48 kB of dynamic shared memory. Raises BackendError where the GPU has not so much."""
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
    """A copy on the CPU. It waits for the kernels in the queue.

    Raises BackendError where one of them failed. The GPU does not say which; those that may have are named.
    """
    try:
        result = cupy.asnumpy(array)
    except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
        raise _failure(error) from error
    _in_queue.clear()
    return result


# ---------------------------------------------------------------------------------------- measuring
def timed(step: Callable[[], float]) -> tuple[float, float]:
    """What a step returns, and its milliseconds by the GPU's own clock."""
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record()
    value = step()
    end.record()
    end.synchronize()
    return value, cupy.cuda.get_elapsed_time(begin, end)


def peak_mb() -> float:
    """The most memory that arrays took so far, in MB: the pool gives nothing back by itself."""
    return cupy.get_default_memory_pool().total_bytes() / 1e6


def version() -> str:
    """CuPy's."""
    return cupy.__version__


# ---------------------------------------------------------------------------------------- failures
def _failure(error: Exception) -> BackendError:
    """An error of a kernel comes to light at a later call. It says what happened, but not where."""
    return BackendError(
        f"the GPU stopped: {error}\n"
        f"  kernels that ran since a result was last read: {', '.join(dict.fromkeys(_in_queue)) or 'none of tinynet'}\n"
        "  To see which line of which kernel it is, run the same on the emulator: backend 'cuda-sim', inside of\n"
        "  `with tinynet.backends.cusim.checked():`. This program must be started anew, the GPU refuses it from now on."
    )
