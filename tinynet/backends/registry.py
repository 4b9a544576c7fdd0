"""The dispatch: decides which implementation of a kernel runs.

An *op* (conv2d) has *kernels* (forward, backward_input, backward_weight): named functions on plain arrays.
Each *tier* is a module of the op's folder that defines them under the same names:

    tinynet/ops/conv2d/reference.py    plain loops: the definition of the result, decorated with `@kernel`
    tinynet/ops/conv2d/cpu.py          Numba
    tinynet/ops/conv2d/cuda.py         launches the CUDA kernels of conv2d.cu: on a GPU, or on the emulator `cusim`

`op.py` imports `forward` from its reference and calls it; the decorator runs the kernel of the chosen tier instead. The
plain definition stays reachable as `forward.definition`.

A folder may contain several ops, as `activations` does: its package lists them in `OPS`, and each of its modules has a
dict `PARTS`, from op to an object that takes the place of the module.

A tier may hold several *implementations*: its module lists them in a dict `IMPLEMENTATIONS`, from name to
the kernels it defines, the default first. If an implementation lacks a kernel, the module's kernel runs.

The *backend* is the tier chosen for a run. A kernel is looked up when it is called, so the choice holds for everything
inside the `with` block, the backward pass included:

    with use_kernels("conv2d", backward_weight=mine):     # a student's kernel in the real net
        loss(model(x), masks).backward()
    with use_kernels("conv2d", "naive"): ...              # another implementation by name
    with use_backend("reference"): ...                    # every op by its definition

Kernels always run on the GPU for arrays in its memory, whatever the backend: `model.to("cuda")` is enough. The backend
`cuda` also refuses arrays that were left on the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from ..errors import BackendError
from . import memory
from .arrays import device_of
from .context import set_inside

# Backend -> the module of an op's folder that holds its kernels. `cuda-sim` runs the CUDA kernels on the CPU.
TIERS = {"reference": "reference", "cpu": "cpu", "cuda": "cuda", "cuda-sim": "cuda"}
# How the dense CUDA kernels multiply: `tf32` on tensor cores, with 10 bits of mantissa where float32 has 23.
PRECISIONS = ("float32", "tf32")

_backend: ContextVar[str] = ContextVar("backend", default="cpu")
_precision: ContextVar[str] = ContextVar("precision", default="float32")
# (op, kernel) -> function and (op, None) -> implementation name, as set by use_kernels.
_overrides: ContextVar[dict] = ContextVar("overrides", default={})  # noqa: B039 (replaced, never changed)
# Op -> the package of its folder. `tinynet.ops` makes its folders known with `register_ops`.
_packages: dict[str, str] = {}

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Kernel(Generic[Parameters, Result]):
    """A dispatch point: calling it runs an override, or the kernel of the tier that works on the first array.

    op, name: of the kernel. definition: the plain function.
    """

    def __init__(self, definition: Callable[Parameters, Result], op: str, name: str) -> None:
        functools.update_wrapper(self, definition)
        self.definition, self.op, self.name = definition, op, name

    def __reduce__(self) -> str:
        return self.name  # pickle stores the name only, as for a function

    def __call__(self, *arguments: Parameters.args, **parameters: Parameters.kwargs) -> Result:
        overrides = _overrides.get()
        if (self.op, self.name) not in overrides:
            return _kernel_of_tier(self.op, self.name, arguments)(*arguments, **parameters)
        # An override may call the kernel that it replaces, so it is not active while it runs.
        others = dict(overrides)
        override = others.pop((self.op, self.name))
        with set_inside(_overrides, others):
            return override(*arguments, **parameters)


def kernel(definition: Callable[Parameters, Result]) -> Kernel[Parameters, Result]:
    """Decorate the definition of a kernel in an op's reference.py: a call runs the chosen tier's kernel."""
    return Kernel(definition, op=definition.__module__.split(".")[-2], name=definition.__name__)


def kernel_to_run(op: str, name: str, arguments: Iterable[Any] = ()) -> Callable:
    """The function to call now for a kernel: an override, or the implementation for the first array's tier."""
    return _overrides.get().get((op, name)) or _kernel_of_tier(op, name, arguments)


def _kernel_of_tier(op: str, name: str, arguments: Iterable[Any]) -> Callable:
    """The implementation of a kernel for the first array's tier."""
    tier = tier_of(_first_array(arguments))
    return implementation_kernel(op, name, tier, _implementation(op, tier))


def _first_array(arguments: Iterable[Any]) -> Any:
    """The first array among the arguments and in the lists and tuples among them."""
    for argument in arguments:
        if hasattr(argument, "dtype"):
            return argument
        if isinstance(argument, (list, tuple)) and argument and hasattr(argument[0], "dtype"):
            return argument[0]
    return None


def tier_of(array: Any) -> str:
    """The tier that works on this array now: `cuda` for one on a GPU, otherwise the backend in use."""
    return "cuda" if device_of(array) == "cuda" else backend()


# ---------------------------------------------------------------------------------------- ops and their modules
def register_ops(package: str, path: Iterable[str]) -> None:
    """Make the op folders of a package known. A folder that holds several ops lists them in `OPS` of its package."""
    for folder in pkgutil.iter_modules(path):
        if folder.ispkg and not folder.name.startswith("_"):
            module = importlib.import_module(f"{package}.{folder.name}")
            _packages.update(dict.fromkeys(getattr(module, "OPS", [folder.name]), module.__name__))


def ops() -> tuple[str, ...]:
    """The names of all ops, in alphabetical order."""
    return tuple(sorted(_packages))


def package_of(op: str) -> str:
    """The package of an op's folder. Raises ValueError for an op that does not exist."""
    if not _packages:
        raise ValueError(f"the op {op!r} cannot be found before `import tinynet.ops`, which registers the operations")
    if op not in _packages:
        raise ValueError(f"there is no op {op!r}; the ops are {', '.join(ops())}")
    return _packages[op]


def op_module(op: str, name: str) -> ModuleType:
    """A module of an op's folder by its name, for instance 'cuda'. In a folder of several ops, they share it."""
    return importlib.import_module(f"{package_of(op)}.{name}")


def op_part(op: str, name: str) -> Any:
    """A module of an op's folder; in a folder of several ops, the part of it for this op, `PARTS[op]`."""
    module = op_module(op, name)
    return getattr(module, "PARTS", {}).get(op, module)


def is_differentiable(op: str) -> bool:
    """True if an op is a function of Tensors. The others are kernels without a gradient, such as an optimizer's."""
    return importlib.util.find_spec(f"{package_of(op)}.op") is not None


@functools.cache
def tier_module(op: str, tier: str) -> Any:
    """The part of an op's folder that contains its kernels in a tier. Imported when it is first needed.

    Raises ValueError for an unknown op, BackendError if Numba is missing.
    """
    try:
        return op_part(op, TIERS[tier])
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
    """The names of an op's kernels: the decorated functions of its reference."""
    functions = vars(tier_module(op, "reference")).items()
    return [name for name, f in functions if isinstance(f, Kernel) and f.op == op]


def has_overrides(op: str) -> bool:
    """True if a function replaces a kernel of `op` now."""
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
    """Kernel `name` of `op` in a tier, from the named implementation, or else from the tier's default."""
    module = tier_module(op, tier)
    available = getattr(module, "IMPLEMENTATIONS", {"default": {}})
    if implementation is None:
        implementation = next(iter(available))
    if implementation not in available:
        raise ValueError(
            f"{op} has no implementation {implementation!r} in tier {tier!r}; it has: {', '.join(available)}"
        )
    found = available[implementation].get(name) or getattr(module, name)
    function = found.definition if isinstance(found, Kernel) else found
    if tier != "cpu":
        return function
    from .numba import threads

    return threads.guarded(function, implementation_kernel.cache_clear)


@contextlib.contextmanager
def use_kernels(op: str, implementation: str | None = None, /, **kernels: Callable) -> Iterator[None]:
    """Inside `with`, run `op` by another implementation, or by kernels of your own.

    op: its name. implementation: the name of an implementation in the current backend. kernels: functions by kernel
    name, e.g. backward_weight=mine. Each takes the arguments of the function of that name in the op's `reference.py`
    (plain arrays first) and returns an array.

    Kernels are looked up when they are called, so the block must surround `backward()` too.
    Raises ValueError, with the names that exist, for an unknown op, implementation or kernel.
    """
    if implementation is not None:
        # Arrays may be on a GPU whatever the backend, so the implementations for GPUs are allowed, too.
        tiers = [backend(), *(["cuda"] if "cupy" in sys.modules else [])]
        if not any(implementation in implementations(op, tier) for tier in tiers):
            implementation_kernel(op, kernel_names(op)[0], backend(), implementation)  # raises, with the names
    unknown = set(kernels) - set(kernel_names(op))
    if unknown:
        raise ValueError(f"{op} has no kernel {', '.join(sorted(unknown))}; it has: {', '.join(kernel_names(op))}")
    changes: dict = {(op, name): function for name, function in kernels.items()}
    if implementation is not None:
        changes[(op, None)] = implementation
    with set_inside(_overrides, {**_overrides.get(), **changes}):
        yield


def backend() -> str:
    """The tier in use."""
    return _backend.get()


@contextlib.contextmanager
def use_backend(name: str, precision: str = "float32") -> Iterator[None]:
    """Inside `with`, run every op of this thread in this tier. A thread that starts inside begins with the default.

    name: 'cpu' (Numba, the default), 'reference' (plain loops), 'cuda' (a GPU, through CuPy: models and data are moved
        there by `.to(device())`) or 'cuda-sim' (the CUDA kernels on the CPU: slow, for learning and checking).
    precision: 'tf32' lets the CUDA kernels multiply on tensor cores (compute capability 8.0 and later): several
        times as fast, with three decimal digits in each factor. Sums are still float32.

    Raises ValueError for an unknown name, and BackendError (with what to install) if a GPU is asked for and something
    is missing, or if 'cuda-sim' finds no C++ compiler.
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
    with set_inside(_backend, name), set_inside(_precision, precision):
        yield


def is_large(x: Any) -> bool:
    """True if a hand-written kernel is worth using for an array.

    For small CPU arrays NumPy is as fast; the CUDA tiers always use the kernel, in the emulator as on a GPU.
    """
    if not isinstance(x, np.ndarray) and device_of(x) == "cpu":
        return False
    return x.dtype.kind == "f" and (x.nbytes >= memory.SMALLEST or TIERS[tier_of(x)] == "cuda")


def device() -> str:
    """The device of the arrays that the current backend works on: 'cuda' for the backend 'cuda', otherwise 'cpu'."""
    return "cuda" if backend() == "cuda" else "cpu"
