"""Which implementation of which kernel runs, and where arrays live.

An *op* (conv2d) has *kernels* (forward, backward_input, backward_weight): named functions on plain arrays.
Each *tier* is a module of the op's folder that defines them under the same names:

    tinynet/ops/conv2d/reference.py    obvious loops, the definition of truth
    tinynet/ops/conv2d/cpu.py          Numba
    tinynet/ops/conv2d/cuda.py         launches the CUDA kernels of conv2d.cu: on a GPU, or on the emulator `cusim`

A tier may hold several *implementations*: its module lists them in a dict `IMPLEMENTATIONS`, from name to
the kernels it defines, the default first. A kernel an implementation lacks is taken from the module.

The *backend* is the tier chosen for a run. Kernels are looked up when they are called, so what is chosen
holds for what happens inside the `with` block, the backward pass included:

    with use_kernels("conv2d", backward_weight=mine):     # a student's kernel in the real net
        loss(model(x), masks).backward()
    with use_kernels("conv2d", "naive"): ...              # another implementation by name
    with use_backend("reference"): ...                    # every op by its definition

Arrays in the memory of a GPU always run there, whatever the backend: `model.to("cuda")` is enough. The backend
`cuda` says in addition that everything is meant to, and refuses arrays that were left on the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import BackendError
from . import memory
from .arrays import array_module, device_of  # noqa: F401 (kernels and devices are asked for in one place)

# Backend -> the module of an op's folder that holds its kernels. `cuda-sim` runs the CUDA kernels on the CPU.
TIERS = {"reference": "reference", "cpu": "cpu", "cuda": "cuda", "cuda-sim": "cuda"}
# How the dense CUDA kernels multiply: `tf32` on tensor cores, with 10 bits of mantissa where float32 has 23.
PRECISIONS = ("float32", "tf32")

_backend: ContextVar[str] = ContextVar("backend", default="cpu")
_precision: ContextVar[str] = ContextVar("precision", default="float32")
# (op, kernel) -> function and (op, None) -> implementation name, as set by use_kernels.
_overrides: ContextVar[dict] = ContextVar("overrides", default={})  # noqa: B039 (replaced, never changed)


# ---------------------------------------------------------------------------------------- the registry
@functools.cache
def ops() -> tuple[str, ...]:
    """The names of all ops that have a room, in alphabetical order."""
    folders = pkgutil.iter_modules(importlib.import_module("tinynet.ops").__path__)
    return tuple(sorted(m.name for m in folders if m.ispkg and not m.name.startswith("_")))


@functools.cache
def tier_module(op: str, tier: str) -> ModuleType:
    """The module of an op's room that holds the kernels of a tier. Imported when it is first needed."""
    if op not in ops():
        raise ValueError(f"there is no op {op!r}; the ops are {', '.join(ops())}")
    try:
        return importlib.import_module(f"tinynet.ops.{op}.{TIERS[tier]}")
    except ModuleNotFoundError as error:
        if error.name == "numba":
            raise BackendError(
                f"backend {tier!r} needs Numba: `pip install numba`, or use_backend('reference')"
            ) from error
        raise


def implementations(op: str, tier: str) -> list[str]:
    """The names of an op's implementations in a tier, the default first."""
    return list(getattr(tier_module(op, tier), "IMPLEMENTATIONS", {"default": {}}))


def kernel_names(op: str) -> list[str]:
    """The names of an op's kernels: the public functions of its reference."""
    module = tier_module(op, "reference")
    return [
        name
        for name, f in vars(module).items()
        if callable(f) and not name.startswith("_") and getattr(f, "__module__", None) == module.__name__
    ]


def kernel(op: str, name: str) -> Callable:
    """The function to call now for kernel `name` of `op`: an override, or the current backend's.

    Once CuPy is in use, only the call itself tells whether its arrays lie on a GPU: see `run_where_arrays_are`.
    """
    chosen = _overrides.get().get((op, name))
    if chosen is not None:
        return chosen
    if "cupy" in sys.modules:
        return functools.partial(run_where_arrays_are, op, name)
    return implementation_kernel(op, name, backend(), _implementation(op, backend()))


def run_where_arrays_are(op: str, name: str, *arguments: Any, **parameters: Any) -> Any:
    """Run kernel `name` of `op` on the GPU if the first array among the arguments lies there, else on the backend."""
    first = next((a for a in _flat(arguments) if hasattr(a, "dtype")), None)
    tier = tier_of(first)
    return implementation_kernel(op, name, tier, _implementation(op, tier))(*arguments, **parameters)


def _flat(arguments: Iterable[Any]) -> Iterator[Any]:
    """The arguments, and what is in the lists and tuples among them."""
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            yield from argument
        else:
            yield argument


def tier_of(array: Any) -> str:
    """The tier that works on this array now: `cuda` for one on a GPU, otherwise the backend in use."""
    return "cuda" if device_of(array) == "cuda" else backend()


def has_overrides(op: str) -> bool:
    """Whether a kernel of `op` is replaced by a function now."""
    return any(name == op and kernel_name is not None for name, kernel_name in _overrides.get())


def implementation_in_use(op: str, tier: str) -> str:
    """The name of the implementation of `op` that runs now in a tier."""
    return _implementation(op, tier) or implementations(op, tier)[0]


def _implementation(op: str, tier: str) -> str | None:
    """The implementation chosen by name or by the precision; None for the tier's default."""
    chosen = _overrides.get().get((op, None))
    if chosen is None and _precision.get() == "tf32" and "tf32" in implementations(op, tier):
        return "tf32"
    return chosen


@functools.cache
def implementation_kernel(op: str, name: str, tier: str, implementation: str | None = None) -> Callable:
    """Kernel `name` of `op` in a tier, by the implementation named, or else by the tier's default."""
    module = tier_module(op, tier)
    available = getattr(module, "IMPLEMENTATIONS", {"default": {}})
    if implementation is None:
        implementation = next(iter(available))
    if implementation not in available:
        raise ValueError(
            f"{op} has no implementation {implementation!r} in tier {tier!r}; it has: {', '.join(available)}"
        )
    return available[implementation].get(name) or getattr(module, name)


@contextlib.contextmanager
def use_kernels(op: str, implementation: str | None = None, /, **kernels: Callable) -> Iterator[None]:
    """Inside `with`, run `op` by another implementation, or by kernels of your own.

    op: its name. implementation: the name of one in the current backend. kernels: functions by kernel name,
    e.g. backward_weight=mine; they get plain arrays and keyword parameters and return an array, as the
    function of that name in the op's `reference.py` does.

    Kernels are looked up when they are called, so the block must surround `backward()` too.
    Raises ValueError for an op, implementation or kernel that does not exist, with the list of those that do.
    """
    if implementation is not None:
        # Arrays may lie on a GPU whatever the backend, and then its implementations count too.
        tiers = [backend(), *(["cuda"] if "cupy" in sys.modules else [])]
        if not any(implementation in implementations(op, tier) for tier in tiers):
            implementation_kernel(op, kernel_names(op)[0], backend(), implementation)  # raises with the names there are
    unknown = set(kernels) - set(kernel_names(op))
    if unknown:
        raise ValueError(f"{op} has no kernel {', '.join(sorted(unknown))}; it has: {', '.join(kernel_names(op))}")
    changes: dict = {(op, name): function for name, function in kernels.items()}
    if implementation is not None:
        changes[(op, None)] = implementation
    token = _overrides.set({**_overrides.get(), **changes})
    try:
        yield
    finally:
        _overrides.reset(token)


def backend() -> str:
    """The tier in use."""
    return _backend.get()


@contextlib.contextmanager
def use_backend(name: str, precision: str = "float32") -> Iterator[None]:
    """Inside `with`, run every op in this tier.

    name: 'cpu' (Numba, the default), 'reference' (plain loops), 'cuda' (a GPU, through CuPy: models and data are moved
        there by `.to(device())`) or 'cuda-sim' (the CUDA kernels on the CPU: slow, for learning and checking).
    precision: 'tf32' lets the CUDA kernels multiply on tensor cores (compute capability 8.0 and later): several
        times as fast, with three decimal digits in each factor. Sums are float32 all the same.

    Raises ValueError for a name that does not exist, BackendError with what to install where a GPU is asked for and
    something is missing, or no C++ compiler is there for 'cuda-sim'.
    """
    if name not in TIERS:
        raise ValueError(f"there is no backend {name!r}; the backends are {', '.join(TIERS)}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if precision != "float32" and TIERS[name] != "cuda":
        raise ValueError(f"precision {precision!r} is for the backends cuda and cuda-sim, not for {name!r}")
    if name == "cuda":
        from .cuda.detect import require_gpu

        require_gpu()
    if name == "cuda-sim":
        from .cusim import compiler

        compiler()
    tokens = _backend.set(name), _precision.set(precision)
    try:
        yield
    finally:
        _backend.reset(tokens[0])
        _precision.reset(tokens[1])


def is_large(x: Any) -> bool:
    """Whether an array is worth a kernel of ours: NumPy itself is as quick with small ones. On a GPU all are, and so
    that the emulator shows what happens there, in it too."""
    if not isinstance(x, np.ndarray) and device_of(x) == "cpu":
        return False
    return x.dtype.kind == "f" and (x.nbytes >= memory.SMALLEST or TIERS[tier_of(x)] == "cuda")


def device() -> str:
    """Where arrays belong that the current backend works on: 'cuda' for the backend of that name, otherwise 'cpu'."""
    return "cuda" if backend() == "cuda" else "cpu"
