"""`jit`: Numba's compiler with a cache on disk that notices every edit.

Numba can keep compiled code on disk, but it looks only at the file a function stands in: edit a helper in
another file, and the stale machine code is served. Here the cache folder is named by the *content* of the
function's file and of every tinynet file that one imports, directly or not. An edit anywhere changes the
name, and the function is compiled anew.

The cache lies in the user's cache folder (`TINYNET_CACHE` moves it). Where it cannot be written, or the disk is full,
kernels are compiled in memory, every time.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Between two kernels, Numba's OpenMP threads would spin on their cores to be ready at once. Where anything else
# runs (the loader's threads, another program), a spinning thread keeps the core from the one that everybody waits
# for: measured, a training step then takes 3 to 8 times as long. Asleep they cost 5 microseconds a kernel. OpenMP
# reads this when it is loaded; who sets the variable has the last word.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba

from ..cache import cache_folder

PACKAGE = Path(__file__).resolve().parents[1]  # tinynet/


def jit(function: Callable | None = None, **options: Any) -> Callable:
    """Compile a kernel with `numba.njit(**options)`, cached on disk by the content of its sources.

    Use it as `@jit` or `@jit(parallel=True)`. Options are Numba's.
    """
    if function is None:
        return functools.partial(jit, **options)
    folder = cache_folder() / "numba" / content_key(Path(inspect.getsourcefile(function)))
    if not _writable(folder):
        return numba.njit(**options)(function)
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)  # Numba reads it once, while it decorates
    try:
        kernel = numba.njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = previous
    kernel._cache.save_overload = _unless_disk_is_full(kernel._cache.save_overload)
    return kernel


def _unless_disk_is_full(save: Callable) -> Callable:
    """Numba lets the error of a cache that it cannot save end the program, though the kernel is compiled by then."""

    def save_if_possible(*args: Any) -> None:
        with contextlib.suppress(OSError):
            save(*args)

    return save_if_possible


@functools.cache
def content_key(source: Path) -> str:
    """A hash of the content of a source file and of all tinynet files it imports, directly or not."""
    digest = hashlib.sha256()
    for path in sorted(_sources(source)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(source: Path) -> set[Path]:
    """The file and, by its import statements, every file of tinynet it depends on."""
    found, todo = set(), [source.resolve()]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(_imported_files(path))
    return found


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
    return [f.resolve() for f in files if f.is_file() and PACKAGE in f.resolve().parents]


def _module_path(name: str) -> Path:
    """tinynet.ops.jit -> .../tinynet/ops/jit, the path of a module without its suffix."""
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
