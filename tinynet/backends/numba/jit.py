"""`jit`: Numba's compiler with a cache on disk that notices every edit.

Numba can keep compiled code on disk, but it looks only at the file that defines the function. After an edit of a helper
in another file, Numba serves the old machine code. Here the name of the cache folder is a hash of the *content* of the
function's file and of every tinynet file that this file imports, directly or not. Any edit changes the name, and the
function is compiled again. The hash also covers Numba's version, LLVM's optimization level, whether indices are checked
(NUMBA_BOUNDSCHECK) and the options, because one function may be compiled in several ways.

The cache lies in the user's cache folder (`TINYNET_CACHE` moves it). If the folder cannot be written or the disk is
full, kernels are compiled in memory, in every process.

Numba's files are pickles, and reading a pickle can run any code. So can the machine code inside. The folder belongs to
the user, and only this user's processes write to it, so it is as trustworthy as the program itself.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel

from ...files import cache_folder
from . import settings
from .announce import Announcer
from .claims import claimed
from .separate import are_loaded, keep_separate, needed_by

PACKAGE = Path(__file__).resolve().parents[2]  # tinynet/
# No kernel contains code of the engine or of the dispatch, although files that kernels are built from import them.
NOT_COMPILED = (PACKAGE / "engine", PACKAGE / "backends" / "registry.py")
DIGEST_LENGTH = 16  # hexadecimal digits, 64 bits

# What OpenMP's threads do between two loops. They run the loops with `prange` of a program's own Numba functions, and
# all kernels where there are no workers (workers.py). Spinning threads are ready at once, but on a machine with other
# work they take the core from the thread that all of them wait for: a training step then takes 3 to 8 times as long
# (measured). Sleeping threads must be woken for every kernel: a step takes a fifth longer. So they spin for about 20
# microseconds and then sleep. GNU's OpenMP reads the count; other versions read the first setting only.
BETWEEN_KERNELS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "2000"}


def load_openmp() -> None:
    """Load OpenMP, which reads its settings from the environment now. A setting of the user is kept.

    The variables are removed again, so that a program that this process starts does not inherit them.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return
    ours = {name: value for name, value in BETWEEN_KERNELS.items() if name not in os.environ}
    os.environ.update(ours)
    with contextlib.suppress(ImportError):  # without OpenMP, Numba runs threads in another way
        import numba.np.ufunc.omppool  # noqa: F401
    for name in ours:
        del os.environ[name]


load_openmp()
settings.limit_threads()  # not earlier: it starts the threads

announcer = Announcer(cache_folder())
event.register("numba:compile", announcer)


def jit(function: Callable | None = None, *, separate: bool = False, **options: Any) -> Callable:
    """Compile a kernel with `numba.njit(**options)`, cached on disk by the content of its sources.

    Use it as `@jit` or `@jit(separate=True)`. Options are Numba's. A division by zero gives inf or NaN, as in
    NumPy: an exception, as in Python, would need a test and a jump at every division.

    separate: the function is compiled once, not again into every kernel that calls it (separate.py). Only kernels can
        call it, not Python: it has no wrapper for Python, which would take time to compile. No kernel has one for C.
    """
    if function is None:
        return functools.partial(jit, separate=separate, **options)
    description = _description(function)
    if function.__closure__:
        # A factory makes several functions of one name. LLVM finds code by name, whichever process has compiled it.
        function.__qualname__ += f"_{_digest(description.encode())}"
    options = {"error_model": "numpy", "no_cfunc_wrapper": True, "no_cpython_wrapper": separate, **options}
    # Sets are sorted, because the order of their elements differs from process to process.
    described = [(name, sorted(v) if isinstance(v, set) else v) for name, v in sorted(options.items())]
    settings_of_numba = numba.__version__, numba.config.OPT, numba.config.BOUNDSCHECK
    how = _digest(repr([*settings_of_numba, *described]).encode())
    folder = cache_folder() / "numba" / f"{content_key(Path(inspect.getsourcefile(function)))}-{how}"
    is_kept = _writable(folder)
    kernel = _cached_in(folder, function, description, options) if is_kept else numba.njit(**options)(function)
    if separate:
        keep_separate(kernel, description)
    announcer.kernels.append(kernel)
    announcer.is_kept &= is_kept
    return kernel


def _cached_in(folder: Path, function: Callable, description: str, options: dict[str, Any]) -> Callable:
    """The function compiled with a cache in the folder."""
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # Numba reads it once, while it decorates
    try:
        kernel = numba.njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = previous
    # Numba would identify a closure by the pickle of what it holds, and other compiled functions in that pickle have
    # another identity in each process. Numba would never find the closure again.
    kernel._cache._index_key = lambda signature, codegen: (signature, codegen.magic_tuple(), description)
    files = kernel._cache._cache_file
    files.load, files.save = functools.partial(_load, files), functools.partial(_save, files, kernel)
    compile_ = kernel.compile

    def compile_once(signature: Any) -> Any:
        """Numba calls this for new arguments: it looks into the cache, and if there is nothing, it compiles."""
        # Numba's lock comes first: then a thread that waits for it claims nothing that another process waits for.
        with global_compiler_lock, claimed(folder.parent, f"{folder.name} {description} {signature}"):
            return compile_(signature)

    kernel.compile = compile_once
    return kernel


# Numba keeps an index for each function and numbers the files of its machine code. If two processes compile one
# function for different signatures at the same time, both choose the same number, and later one signature gets the code
# of the other. Here the name of a file is a hash of its key, and there is no index.
#
# A damaged file may still be readable, and wrong machine code may do anything: so each file begins with a digest of the
# rest.


def _load(files: Any, key: tuple) -> tuple | None:
    """The machine code for a signature and processor, or None. A damaged file gives None and is written again."""
    with contextlib.suppress(Exception):  # whatever a damaged pickle raises, the kernel is compiled again
        content = Path(_file(files, key)).read_bytes()
        digest, code = content[:DIGEST_LENGTH], content[DIGEST_LENGTH:]
        if digest == _digest(code).encode():
            kept, needed = pickle.loads(code)
            parallel._launch_threads()  # the code may call the threading layer (tasks.py)
            return kept if are_loaded(needed) else None
    return None


def _save(files: Any, kernel: Any, key: tuple, code: tuple) -> None:
    """Write machine code to disk. If the disk is full, the kernel runs from memory."""
    newest = next(reversed(kernel.overloads.values()))
    pickled = files._dump((code, needed_by(newest)))
    with contextlib.suppress(OSError), files._open_for_write(_file(files, key)) as file:
        file.write(_digest(pickled).encode() + pickled)


def _file(files: Any, key: tuple) -> str:
    return files._data_path(f"{Path(files._index_name).stem}.{_digest(repr(key).encode())}.nbc")


def _description(value: Any) -> str:
    """Text that says which function this is, the same in every process: its name and what its closure holds.

    A function that a factory makes is compiled once for each set of things it closes over: numbers, arrays, and other
    functions, compiled ones and intrinsics among them, which are described in turn by their sources and closures.
    """
    function = getattr(value, "py_func", getattr(value, "_defn", value))  # of a compiled function, of an intrinsic
    if inspect.isfunction(function):
        cells = [_description(cell.cell_contents) for cell in function.__closure__ or ()]
        return f"{function.__qualname__} {content_key(Path(inspect.getsourcefile(function)))} {cells}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {_digest(value.tobytes())}"
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return repr(value)
    if isinstance(value, tuple):
        return str([_description(element) for element in value])
    raise TypeError(
        f"jit: the compile cache cannot identify a function that closes over a {type(value).__name__}: {value!r}"
    )


@functools.cache
def content_key(source: Path) -> str:
    """A hash of the content of a source file and of all tinynet files that it is built from, see `_sources`."""
    return _digest(b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in sorted(_sources(source))))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


def _sources(source: Path) -> set[Path]:
    """The file and, by its import statements, every file of tinynet that its kernels are built from."""
    found, todo = set(), [source.resolve()]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(_imported_files(path))
    return found


@functools.cache  # many kernels import the same files
def _imported_files(path: Path) -> list[Path]:
    """The tinynet files that the import statements of one file name (`import tinynet.x`, `from .y import z`)."""
    candidates = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            candidates += [_module_path(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # from ..jit import jit: one dot is the file's own folder
                folder = path.parents[node.level - 1]
                base = folder.joinpath(*(node.module or "").split(".")) if node.module else folder
            else:
                base = _module_path(node.module or "")
            candidates += [base, *(base / alias.name for alias in node.names)]
    files = (file for c in candidates for file in (c.with_suffix(".py"), c / "__init__.py"))
    found = (f.resolve() for f in files if f.is_file())
    return [f for f in found if PACKAGE in f.parents and not {f, *f.parents}.intersection(NOT_COMPILED)]


def _module_path(name: str) -> Path:
    """tinynet.backends.numba.jit -> .../tinynet/backends/numba/jit, the path of a module without its suffix."""
    return PACKAGE.parent.joinpath(*name.split("."))


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
