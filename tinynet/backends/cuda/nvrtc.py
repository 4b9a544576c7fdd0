"""NVIDIA's run-time compiler, NVRTC, called through ctypes.

It turns CUDA C++ into machine code of a GPU. It is one shared library and needs neither a GPU nor a driver nor CuPy,
so what is compiled for a GPU can be compiled, and its use of registers read, on any machine with Linux or Windows.

The library comes with the packages nvidia-cuda-nvrtc-cu12 and nvidia-cuda-nvrtc (of CUDA 13), or with a CUDA toolkit.

    compiled = load().compile(source.code, source.name, 90, {"real": "float"})
    for kernel, use in resources(compiled.log).items(): ...
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BackendError, how_to_install
from .source import compiler_options

# No --use_fast_math: it turns numbers below 1.2e-38 into zeros, and rounds divisions, square roots and exponentials
# less well than the tests allow. Multiplications and additions are fused, as is the default: one rounding instead of
# two. -lineinfo lets tools such as compute-sanitizer name a line of the .cu, and costs nothing when the kernel runs.
OPTIONS = ["-std=c++17", "-lineinfo", "--ptxas-options=-v"]

if sys.platform == "win32":
    PATTERNS = ("cuda_nvrtc/bin/nvrtc64_*_0.dll", "cu*/bin/**/nvrtc64_*_0.dll")
else:
    PATTERNS = ("cuda_nvrtc/lib/libnvrtc.so.[0-9]*", "cu*/lib/libnvrtc.so.[0-9]*")

_FUNCTION = re.compile(r"Function properties for (\w+)")
_NUMBERS = {
    "stack": re.compile(r"(\d+) bytes stack frame"),
    "spill_stores": re.compile(r"(\d+) bytes spill stores"),
    "spill_loads": re.compile(r"(\d+) bytes spill loads"),
    "registers": re.compile(r"Used (\d+) registers"),
    "shared": re.compile(r"(\d+) bytes smem"),
}


class NvrtcMissing(BackendError):
    """NVRTC is not installed; the message says how to install it."""


class CompileError(BackendError):
    """The compiler refused a kernel; the message is the compiler's, with file and line."""


@dataclass(frozen=True)
class Compiled:
    """What a compilation gave.

    binary: machine code of one kind of GPU, or with is_ptx the text of an instruction set that the driver translates
    for the GPU at hand. log: of the compiler, with what `resources` reads.
    """

    binary: bytes
    is_ptx: bool
    log: str


@dataclass(frozen=True)
class Resources:
    """What one kernel takes. Per thread: registers (of 4 bytes), and bytes of stack and of registers that found no
    place and went to memory (spills). Per block: bytes of static shared memory."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


class Nvrtc:
    """The compiler. Its methods may be called from several threads at a time.

    version: (major, minor) of CUDA. architectures: what it has machine code for, ascending, e.g. 75 for sm_75, which
    is compute capability 7.5.
    """

    def __init__(self, path: str | Path) -> None:
        for builtins in Path(path).parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins))  # the compiler opens this file by its name alone, and may not find it by itself
        self._library = ctypes.CDLL(str(path))
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        architectures = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(architectures))
        self.version = (major.value, minor.value)
        self.architectures = sorted(architectures)

    def compile(self, code: str, name: str, architecture: int, macros: Mapping[str, str | int]) -> Compiled:
        """Compile CUDA C++ for one kind of GPU.

        code: as `Source.code`. name: of the file, for messages. architecture: e.g. 90. macros: of the variant.
        For a GPU newer than the compiler the result is PTX of the newest older one, which the driver translates.
        Raises CompileError where the code is wrong, and ValueError for a GPU older than the compiler knows.
        """
        known = [a for a in self.architectures if a <= architecture]
        if not known:
            raise ValueError(f"NVRTC {self.version} has no code for sm_{architecture}, only for {self.architectures}")
        is_ptx = known[-1] != architecture
        target = f"--gpu-architecture={'compute' if is_ptx else 'sm'}_{known[-1]}"
        program = ctypes.c_void_p()
        self._check(
            self._library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), name.encode(), 0, None, None)
        )
        try:
            options = [option.encode() for option in (*OPTIONS, target, *compiler_options(macros))]
            status = self._library.nvrtcCompileProgram(
                program, len(options), (ctypes.c_char_p * len(options))(*options)
            )
            log = self._read(program, "ProgramLog").decode(errors="replace").rstrip("\0\n")
            if status != 0:
                raise CompileError(f"{name} cannot be compiled:\n{log or self._message(status)}")
            return Compiled(self._read(program, "PTX" if is_ptx else "CUBIN"), is_ptx, log)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        """One of the things that a program holds, by the pair of functions that give its size and its bytes."""
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(f"NVRTC: {self._message(status)}")

    def _message(self, status: int) -> str:
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return self._library.nvrtcGetErrorString(status).decode()


@functools.cache
def load(newest: int | None = None) -> Nvrtc:
    """The compiler that is installed, the newest if there are several.

    newest: the highest major version of CUDA that will do: a driver runs machine code of its own major version and
    older ones. Raises NvrtcMissing where there is none.
    """
    found = []
    for path in _libraries():
        try:
            nvrtc = Nvrtc(path)
        except (OSError, AttributeError):  # damaged, of another kind of processor, or too old to know these functions
            continue
        if newest is None or nvrtc.version[0] <= newest:
            found.append(nvrtc)
    if not found:
        extra = "cuda13" if newest is not None and newest >= 13 else "cuda12"
        raise NvrtcMissing(
            "NVIDIA's run-time compiler (NVRTC) is not installed"
            + (f" in a version for CUDA {newest}" if newest else "")
            + f", and without it no CUDA kernel can be compiled: {how_to_install(extra)}"
        )
    return max(found, key=lambda nvrtc: nvrtc.version)


def _libraries() -> Iterator[str]:
    """Where NVRTC may be: in NVIDIA's packages, in the CUDA toolkit, or where the system keeps its libraries."""
    packages = importlib.util.find_spec("nvidia")
    for folder in packages.submodule_search_locations if packages else ():
        for pattern in PATTERNS:
            yield from sorted(str(path) for path in Path(folder).glob(pattern))
    toolkit = os.environ.get("CUDA_PATH") or os.environ.get("CUDA_HOME") or "/usr/local/cuda"
    for pattern in ("lib64/libnvrtc.so", "bin/nvrtc64_*_0.dll"):
        yield from (str(path) for path in Path(toolkit).glob(pattern))
    system = ctypes.util.find_library("nvrtc")
    if system:
        yield system


def resources(log: str) -> dict[str, Resources]:
    """What each kernel takes, by its name, from the log of a compilation to machine code."""
    found: dict[str, dict[str, int]] = {}
    numbers: dict[str, int] = {}
    for line in log.splitlines():
        function = _FUNCTION.search(line)
        if function:
            numbers = found[function[1]] = dict.fromkeys(_NUMBERS, 0)
        for name, pattern in _NUMBERS.items():
            match = pattern.search(line)
            if match:
                numbers[name] = int(match[1])
    # Functions that a kernel calls are listed too; their registers are counted with the kernel's.
    return {name: Resources(**numbers) for name, numbers in found.items() if numbers["registers"]}
