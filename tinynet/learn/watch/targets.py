"""What can be checked in a room: a kernel by one implementation in one tier, and the files that it is built from."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ...backends.cuda.source import Source
from ...backends.numba.jit import _sources
from ...backends.registry import implementation_kernel, implementations, kernel_names, tier_module, use_backend
from ...errors import BackendError

OPS = Path(__file__).resolve().parents[2] / "ops"
# In the place of a kernel: the derivatives of the whole op, all of its kernels by their reference.
DERIVATIVES = "derivatives"


@dataclass(frozen=True)
class Target:
    """A kernel of a room by one implementation in one tier."""

    tier: str
    implementation: str
    kernel: str

    def __str__(self) -> str:
        return f"{self.tier:9} {self.implementation:10} {self.kernel:16}"


def missing(tier: str) -> str | None:
    """What this machine lacks to run a tier, as a sentence; None where it can."""
    try:
        with use_backend(tier):
            return None
    except BackendError as error:
        return str(error)


def targets_of(op: str, tier: str) -> list[Target]:
    """The targets of a tier, those of its default first. A function that several implementations share comes once.

    Raises whatever importing the room's modules raises.
    """
    if tier == "reference":
        is_differentiable = importlib.util.find_spec(f"tinynet.ops.{op}.op") is not None
        return [Target(tier, "default", k) for k in (*kernel_names(op), *[DERIVATIVES] * is_differentiable)]
    first: dict[tuple[str, Callable], Target] = {}
    for name in implementations(op, tier):
        for kernel in kernel_names(op):
            first.setdefault((kernel, implementation_kernel(op, kernel, tier, name)), Target(tier, name, kernel))
    return list(first.values())


def home_of(op: str, target: Target) -> Path:
    """The file in which the function of a target stands."""
    if target.kernel == DERIVATIVES:
        return OPS / op / "op.py"
    function = implementation_kernel(op, target.kernel, target.tier, target.implementation)
    return Path(inspect.getsourcefile(getattr(function, "func", function)))  # func: of a functools.partial


def files_of(op: str, target: Target, sources: Iterable[Source] | None = None) -> set[Path]:
    """The files of `tinynet/ops` that a target is built from, by their import statements, and its cases.

    sources: the `.cu` files that the target launches kernels of, if that is known; otherwise all that its Python
    files speak of are taken.
    """
    files = {OPS / op / "cases.py"}
    if target.kernel == DERIVATIVES:
        files |= _sources(OPS / op / "reference.py")
    files |= _sources(home_of(op, target))
    files.add(Path(tier_module(op, target.tier).__file__))
    for source in _sources_named_in(files) if sources is None else sources:
        files |= {source.path, *source.headers}
    return _in_ops(files)


def _in_ops(files: set[Path]) -> set[Path]:
    return {file for file in files if OPS in file.parents}


def _sources_named_in(files: set[Path]) -> list[Source]:
    """The `.cu` files that the modules in these files have opened."""
    modules = [m for m in list(sys.modules.values()) if Path(getattr(m, "__file__", None) or "/") in files]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Source)]
