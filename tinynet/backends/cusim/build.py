"""Compiles a `.cu` file for the emulator with the machine's C++ compiler, once, and keeps the result on disk.

What is compiled is the file as it stands with `language.h` in front, which defines the words of CUDA that are not C++,
and a function for each kernel behind it that takes the arguments from an array. The runtime is compiled once and
linked to each.

A build for the checks has every access to memory announced. Compilers can do that for a tool of their own,
ThreadSanitizer: `-fsanitize=thread` puts a call like `__tsan_read4(address)` in front of each. We let the compiler put
in these calls, and link functions of our own by those names (shadow.cpp) instead of the tool's library.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import BackendError
from ...files import cache_folder
from ..builds import DIGEST_LENGTH, undamaged, with_digest
from ..cuda.source import Source
from .findings import KernelError

HERE = Path(__file__).parent
RUNTIME = sorted(HERE.glob("*.cpp"))
COMMON = ["-std=c++17", "-fPIC", "-fvisibility=hidden"]
# A product and a sum are rounded one after the other, on every machine. For frames see fibers.h.
KERNEL = ["-g1", "-gdwarf-4", "-ffp-contract=off"]
KERNEL_GCC = ["-Werror=frame-larger-than=32768"]
KERNEL_CLANG = ["-Wframe-larger-than=32768", "-Werror=frame-larger-than"]
PLAIN = ["-O2", "-march=native"]  # twice as fast as without, where products are summed
CHECKED = ["-O1", "-fsanitize=thread", "-fsanitize=signed-integer-overflow,integer-divide-by-zero"]
CHECKED_GCC = ["-fsanitize=bounds", "--param=tsan-instrument-func-entry-exit=0"]
CHECKED_CLANG = ["-fsanitize=array-bounds", "-fno-vectorize", "-fno-slp-vectorize"]
# GCC forgets the section of a shared array in a template and puts the array into .bss, where kernels have nothing else.
LINKER_SCRIPT = """
SECTIONS { cusim_shared : {
  __start_cusim_shared = .; *(cusim_shared) *kernels.o(.bss) __stop_cusim_shared = .;
} } INSERT AFTER .data;
"""
DAYS_KEPT = 7  # an older unused build is deleted when the same kernel is built anew

_DYNAMIC_SHARED = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s+)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")


# A variable, not a function, which would have a parenthesis before any of these signs; a constant cannot be written.
_DEVICE_VARIABLE = re.compile(
    r"\b__device__(?=(?:\s*__align__\s*\(\s*\d+\s*\))?(?![^;]*?\bconst(?:expr)?\b)[^(){};=\[]+[;=\[])"
)


class CompilerMissing(BackendError):
    """There is no C++ compiler; the message says what to install."""


def compiler() -> str:
    """The path of the C++ compiler: that of $CXX, or else g++, clang++ or c++.

    Raises CompilerMissing where there is none, or where the emulator has never been made to run.
    """
    if not sys.platform.startswith("linux"):
        raise CompilerMissing("the emulator of CUDA runs on Linux only; in a container it runs elsewhere, too")
    chosen = os.environ.get("CXX")
    names = [chosen] if chosen else ["g++", "clang++", "c++"]
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise CompilerMissing(
        f"CUDA kernels run on the CPU through a C++ compiler, and {' and '.join(names)} cannot be found; "
        "install one, e.g. `apt install g++`, or name it in the environment variable CXX"
    )


def library(source: Source, macros: Mapping[str, str | int], is_checked: bool) -> Path:
    """The path of the loadable library with the kernels of a file, built if it is not there.

    Raises KernelError with the compiler's message where the file is no valid C++, CompilerMissing.
    """
    options = kernel_options(is_checked)
    text = translation_unit(source, macros)
    mode = "checked" if is_checked else "plain"
    described = "".join(f"-{name}={value}" for name, value in sorted(macros.items()))
    name = f"{source.path.stem}{described}-{mode}"
    stem = f"{name}-{_key(text, options)}"
    kept = undamaged(_folder(), stem, ".so")
    if kept:
        os.utime(kept)  # still in use
        return kept
    print(f"tinynet: compiling {source.short_name} for the emulator ...", file=sys.stderr)
    _delete_old(name)
    with tempfile.TemporaryDirectory(dir=_folder()) as scratch:
        compiled = Path(scratch, "kernels.o")
        linked = Path(scratch, "kernels.so")
        _compile_kernels(source, text, options, compiled, scratch)
        script = Path(scratch, "sections.ld")
        script.write_text(LINKER_SCRIPT)
        _run([compiler(), "-shared", str(compiled), str(_runtime()), f"-Wl,-T,{script}", "-o", str(linked)])
        return with_digest(_folder(), stem, ".so", linked.read_bytes())


def kernel_options(is_checked: bool) -> list[str]:
    """The compiler's options for a .cu file."""
    options = [*COMMON, *KERNEL, *(KERNEL_CLANG if _is_clang() else KERNEL_GCC)]
    if not is_checked:
        return [*options, *PLAIN]
    return [*options, *CHECKED, *(CHECKED_CLANG if _is_clang() else CHECKED_GCC)]


def translation_unit(source: Source, macros: Mapping[str, str | int]) -> str:
    """The C++ that is compiled for a .cu file."""
    # Macros come after the standard headers that language.h includes: they might use a name such as `real` themselves.
    defined = "".join(f"#define {name} {value}\n" for name, value in sorted(macros.items()))
    kernels = _DYNAMIC_SHARED.sub(r"\1* \2 = (\1*)cusim::dynamic_shared_memory();", source.code)
    kernels = _DEVICE_VARIABLE.sub("CUSIM_DEVICE_VARIABLE", kernels)
    if not _is_clang():
        kernels = re.sub(r"^(\s*)#\s*pragma unroll[ \t]*$", r"\1#pragma GCC unroll 64", kernels, flags=re.MULTILINE)
    calls = "".join(_call(source, kernel) for kernel in source.kernels)
    return f"""#include "language.h"
{defined}
{"".join(f"CUSIM_MAY_BE_MISSING({kernel})" for kernel in source.kernels)}
namespace kernels {{
namespace {{  // all is local: so compilers agree to put shared arrays of inline functions, too, into one section
{kernels}
}}
#line 1 "calls"
{calls}
}}
"""


def _call(source: Source, kernel: str) -> str:
    """C++ that calls a kernel with arguments from an array of their addresses."""
    try:
        types = [p.type + "*" * p.is_pointer for p in source.signature(kernel)]
    except ValueError:  # launching this kernel raises the error; the other kernels of the file can be run
        return ""
    arguments = ", ".join(f"*({type_name}*)arguments[{i}]" for i, type_name in enumerate(types))
    # The parentheses around the name: an argument of type float4 does not make C++ look for the name elsewhere, too.
    attributes = '__attribute__((visibility("default"), no_sanitize("thread")))'
    return f'extern "C" {attributes} void cusim_call_{kernel}(void** arguments) {{ ({kernel})({arguments}); }}\n'


def _compile_kernels(source: Source, text: str, options: Sequence[str], target: Path, scratch: str) -> None:
    # The scratch folder, in which the compiler runs, is kept out of what it writes about lines.
    command = [compiler(), *options, f"-fdebug-prefix-map={scratch}=.", "-I", str(HERE), "-x", "c++", "-c", "-"]
    result = _run([*command, "-o", str(target)], text, scratch, may_fail=True)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if "error:" in line] or result.stderr.splitlines()
        raise KernelError(f"{source.name} cannot be compiled:\n  " + "\n  ".join(errors[:10]))


@functools.cache
def _runtime() -> Path:
    """The runtime, compiled: an object file that is linked to each library of kernels."""
    options = [*COMMON, "-O2"]
    stem = f"runtime-{_key('', options)}"
    kept = undamaged(_folder(), stem, ".o")
    if kept:
        return kept
    _delete_old("runtime")
    with tempfile.TemporaryDirectory(dir=_folder()) as scratch:
        target = Path(scratch, "runtime.o")
        # All in one: most of the time goes into the headers of the standard library, which are read once this way.
        text = "".join(f'#include "{file.name}"\n' for file in RUNTIME)
        _run([compiler(), *options, "-I", str(HERE), "-x", "c++", "-c", "-", "-o", str(target)], text)
        return with_digest(_folder(), stem, ".o", target.read_bytes())


def _run(
    command: Sequence[str], text: str = "", folder: str | None = None, may_fail: bool = False
) -> subprocess.CompletedProcess:
    environment = {**os.environ, "LC_ALL": "C"}
    result = subprocess.run(command, input=text, text=True, capture_output=True, cwd=folder, env=environment)
    if result.returncode and not may_fail:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr}")
    return result


@functools.cache
def _version(path: str) -> str:
    return _run([path, "--version"]).stdout


@functools.cache
def _processor() -> str:
    """What the processor can do: code for one may not run on another that has the same cache folder."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return " ".join(sorted({line for line in lines if line.startswith(("flags", "Features"))}))


def _is_clang() -> bool:
    return "clang" in _version(compiler())


@functools.cache
def _emulator() -> bytes:
    """The emulator's own sources, which are part of every build."""
    return b"".join(path.read_bytes() for path in sorted([*RUNTIME, *HERE.glob("*.h")]))


def _key(text: str, options: Sequence[str]) -> str:
    """Changes with everything that a build is made from."""
    parts = [
        text.encode(),
        _emulator(),
        LINKER_SCRIPT.encode(),
        repr([*options, compiler(), _version(compiler()), _processor()]).encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


@functools.cache
def _folder() -> Path:
    """Where builds are kept; a temporary folder where the cache cannot be written."""
    folder = cache_folder() / "cusim"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return Path(_temporary_folder().name)
    return folder


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="tinynet-cusim-")  # deleted when the process ends


def _delete_old(name: str) -> None:
    """Delete builds of the same kernels that no process has used for long; another process may use a younger one."""
    for path in _folder().glob(f"{glob.escape(name)}-{'?' * 16}-{'?' * DIGEST_LENGTH}.*"):
        try:
            if time.time() - path.stat().st_mtime > DAYS_KEPT * 24 * 3600:
                path.unlink()
        except OSError:
            pass
