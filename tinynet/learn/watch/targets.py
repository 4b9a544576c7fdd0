"""What can be checked in an op folder: a kernel by one implementation in one tier, and the files it is built from."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ...backends.cuda.source import Source
from ...backends.numba.jit import _sources
from ...backends.registry import (
    TIERS,
    implementation_kernel,
    implementations,
    is_differentiable,
    kernel_names,
    package_of,
    use_backend,
)
from ...errors import BackendError

OPS = Path(__file__).resolve().parents[2] / "ops"
# Takes the place of a kernel's name: the derivatives of the whole op, with all kernels of the reference.
DERIVATIVES = "derivatives"


@dataclass(frozen=True)
class Target:
    """A kernel by one implementation in one tier."""

    tier: str
    implementation: str
    kernel: str

    def __str__(self) -> str:
        return f"{self.tier:9} {self.implementation:10} {self.kernel:16}"


def folder_of(op: str) -> Path:
    """The folder of an op; several ops may share one."""
    return Path(importlib.import_module(package_of(op)).__path__[0])


def missing(tier: str) -> str | None:
    """What this machine lacks to run a tier, as a sentence; None if it can run it."""
    try:
        with use_backend(tier):
            return None
    except BackendError as error:
        return str(error)


def targets_of(op: str, tier: str) -> list[Target]:
    """The targets of a tier, its default implementation first. A function that several implementations share is listed
    once. Raises the exception of a module that cannot be imported."""
    if tier == "reference":
        return [Target(tier, "default", k) for k in (*kernel_names(op), *[DERIVATIVES] * is_differentiable(op))]
    first: dict[tuple[str, Callable], Target] = {}
    for name in implementations(op, tier):
        for kernel in kernel_names(op):
            first.setdefault((kernel, implementation_kernel(op, kernel, tier, name)), Target(tier, name, kernel))
    return list(first.values())


def home_of(op: str, target: Target) -> Path:
    """The file that contains the function of a target."""
    if target.kernel == DERIVATIVES:
        entries = folder_of(op) / "entries.py"  # in a folder of several ops
        return entries if entries.exists() else folder_of(op) / "op.py"
    function = implementation_kernel(op, target.kernel, target.tier, target.implementation)
    return Path(str(inspect.getsourcefile(getattr(function, "func", function))))  # func: of a functools.partial


def files_of(op: str, target: Target, sources: Iterable[Source] | None = None) -> set[Path]:
    """The files of `tinynet/ops` that a target is built from, found by their import statements, and its cases.

    sources: the `.cu` files whose kernels the target launches. If they are not known, all `.cu` files that its Python
    files open are included.
    """
    folder = folder_of(op)
    files = {folder / "cases.py", folder / f"{TIERS[target.tier]}.py", *_sources(home_of(op, target))}
    if target.kernel == DERIVATIVES:
        files |= _sources(folder / "reference.py")
    if sources is None:
        modules = [m for m in list(sys.modules.values()) if Path(getattr(m, "__file__", None) or "/") in files]
        sources = [value for m in modules for value in vars(m).values() if isinstance(value, Source)]
    for source in sources:
        files |= {source.path, *source.headers}
    return {file for file in files if OPS in file.parents}
