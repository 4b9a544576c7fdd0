"""A stand-in for CuPy on machines without a GPU: arrays that behave like CuPy's and lie in the CPU's memory.

What tinynet does with arrays on a GPU is Python code like any other, and this lets it run: as strict as CuPy (arrays
of NumPy do not mix with these, nothing becomes a NumPy array by itself), with every transfer counted, and with the
kernels handed to the emulator. `install` puts it in the place of CuPy for a test.
"""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

import tinynet.backends.cuda
from tinynet import cusim
from tinynet.backends.cuda import detect
from tinynet.backends.cuda.source import KernelCall

# Functions that CuPy has under the name and with the meaning of NumPy's. The list is what tinynet uses: whoever needs
# another one looks first whether CuPy has it.
_FUNCTIONS = """
    abs all any arange argmax argmin argpartition argsort array_equal ascontiguousarray broadcast_to clip concatenate
    cos count_nonzero cumsum empty empty_like exp expand_dims expm1 eye floor full full_like isfinite isinf isnan
    linspace log log1p logical_and logical_not logical_or matmul max maximum may_share_memory mean meshgrid min minimum
    moveaxis nan_to_num nonzero ones ones_like pad power prod searchsorted shape sign sin sqrt square stack sum
    swapaxes take_along_axis tanh transpose where zeros zeros_like
"""
FUNCTIONS = _FUNCTIONS.split()
UFUNCS = ["add", "subtract", "multiply", "divide"]
_METHODS = """
    all any argmax argmin astype clip copy cumsum fill max mean min nonzero prod ravel repeat reshape squeeze sum
    swapaxes take transpose var view
"""
METHODS = _METHODS.split()


class Data:
    """The memory of an array: its address."""

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


def leaves_to_tensors(operator: Any) -> Any:
    """The operator `array * other`, which leaves a Tensor to the Tensor, as CuPy and NumPy do by their priorities."""
    return lambda self, other: NotImplemented if getattr(other, "__array_priority__", 0) > 0 else operator(self, other)


class Operators(np.lib.mixins.NDArrayOperatorsMixin):
    for _name in ("add", "sub", "mul", "truediv", "pow", "lt", "le", "gt", "ge", "eq", "ne"):
        locals()[f"__{_name}__"] = leaves_to_tensors(getattr(np.lib.mixins.NDArrayOperatorsMixin, f"__{_name}__"))


class ndarray(Operators):
    """An array "on the GPU". `_values` holds the elements; only this file reads it."""

    def __init__(self, values: Any) -> None:
        self._values = values

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: self._values.flags)
    base = property(lambda self: self._values.base)
    data = property(lambda self: Data(self._values.ctypes.data))
    T = property(lambda self: wrapped(self._values.T))

    # ------------------------------------------------------------------- what stays on the GPU
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **parameters: Any) -> Any:
        return wrapped(getattr(ufunc, method)(*unwrapped(inputs), **unwrapped(parameters)))

    def __array_function__(self, function: Any, types: Any, arguments: Any, parameters: Any) -> Any:
        if function.__name__ not in FUNCTIONS:
            raise TypeError(f"numpy.{function.__name__} of an array on the GPU: is there a cupy.{function.__name__}?")
        return wrapped(function(*unwrapped(arguments), **unwrapped(parameters)))

    def __getitem__(self, index: Any) -> Any:
        return wrapped(self._values[unwrapped(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[unwrapped(index)] = unwrapped(value)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # ------------------------------------------------------------------- what comes from the GPU
    def __array__(self, *arguments: Any, **parameters: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def get(self) -> np.ndarray:
        machine.to_cpu.append(self.nbytes)
        return self._values.copy()

    def item(self) -> Any:
        return self.get().item()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __repr__(self) -> str:
        return f"cupy.{self._values!r}"


ndarray.__module__ = "cupy"  # by this, tinynet tells which arrays are CuPy's


def _add_methods() -> None:
    def method(name: str) -> Any:
        return lambda self, *a, **k: wrapped(getattr(self._values, name)(*unwrapped(a), **unwrapped(k)))

    for name in METHODS:
        setattr(ndarray, name, method(name))


_add_methods()


def unwrapped(value: Any) -> Any:
    """The values of arrays on the GPU; arrays of NumPy are refused as CuPy refuses them."""
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(map(unwrapped, value))
    if isinstance(value, dict):
        return {name: unwrapped(v) for name, v in value.items()}
    return value


def wrapped(result: Any) -> Any:
    """Arrays on the GPU of NumPy's arrays and of its scalars, which CuPy returns as arrays without axes."""
    if isinstance(result, (np.ndarray, np.generic)):
        return ndarray(np.asarray(result))
    if isinstance(result, (tuple, list)):
        return type(result)(map(wrapped, result))
    return result


# ------------------------------------------------------------------------------------- the module
class Ufunc:
    """A function of two arrays, with the method `at`."""

    def __init__(self, name: str) -> None:
        self._ufunc = getattr(np, name)

    def __call__(self, *arguments: Any, **parameters: Any) -> Any:
        return wrapped(self._ufunc(*unwrapped(arguments), **unwrapped(parameters)))

    def at(self, array: ndarray, index: Any, values: Any) -> None:
        self._ufunc.at(array._values, unwrapped(index), unwrapped(values))


class RawModule:
    """Stands for a file of compiled kernels; its kernels are never run, see `install`."""

    def __init__(self, *, path: str) -> None:
        self.path = path
        machine.modules.append(path)

    def get_function(self, name: str) -> Any:
        return name


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


def asarray(values: Any, dtype: Any = None) -> ndarray:
    """A copy of a NumPy array, counted; an array that is on the GPU already as it is."""
    if isinstance(values, ndarray):
        return values if dtype is None else values.astype(dtype, copy=False)
    array = np.array(values, dtype)
    if isinstance(values, np.ndarray):
        machine.to_gpu.append(array.nbytes)
    return ndarray(array)


def asnumpy(array: Any) -> np.ndarray:
    if machine.error is not None:
        raise machine.error
    return array.get() if isinstance(array, ndarray) else np.asarray(array)


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """An array full of what no kernel computes: one that is not filled is noticed."""
    array = np.empty(shape, dtype)
    if array.nbytes > machine.free:
        raise OutOfMemoryError(f"Out of memory allocating {array.nbytes:,} bytes")
    array.fill(np.nan if array.dtype.kind == "f" else 77)
    return ndarray(array)


def as_strided(x: ndarray, shape: tuple, strides: tuple) -> ndarray:
    return ndarray(np.lib.stride_tricks.as_strided(x._values, shape, strides))


def _function(name: str) -> Any:
    function = getattr(np, name)
    return lambda *a, **k: wrapped(function(*unwrapped(a), **unwrapped(k)))


class Event:
    """A mark in the queue, which ends at once here."""

    def record(self) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        pass


def elapsed_ms(begin: Event, end: Event) -> float:
    return 1000 * (end.seconds - begin.seconds)


def make_module() -> ModuleType:
    module = ModuleType("cupy")
    vars(module).update({name: _function(name) for name in FUNCTIONS})
    vars(module).update({name: Ufunc(name) for name in UFUNCS})
    vars(module).update(ndarray=ndarray, asarray=asarray, array=asarray, asnumpy=asnumpy, empty=empty)
    module.__version__ = "0.0"
    module.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=as_strided))
    pool = SimpleNamespace(total_bytes=lambda: 3000, used_bytes=lambda: 2000)
    module.RawModule, module.get_default_memory_pool = RawModule, lambda: pool
    module.cuda = SimpleNamespace(
        runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError, memGetInfo=lambda: (machine.free, 10**9)),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        Event=Event,
        get_elapsed_time=elapsed_ms,
        Device=lambda: SimpleNamespace(attributes={"MaxSharedMemoryPerBlockOptin": 100_000}),
    )
    return module


# ------------------------------------------------------------------------------------- the machine
@dataclass
class Machine:
    """What happened, and what is to happen. to_gpu, to_cpu: bytes of each transfer. launches: names of kernels.
    modules: files of kernels that were loaded. error: raised at the next transfer. free: bytes of memory."""

    to_gpu: list[int] = field(default_factory=list)
    to_cpu: list[int] = field(default_factory=list)
    launches: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    error: Exception | None = None
    free: int = 10**9

    def forget(self) -> None:
        """Start counting afresh."""
        for events in (self.to_gpu, self.to_cpu, self.launches, self.modules):
            events.clear()


machine = Machine()


class EmulatedFunction:
    """A kernel as CuPy gives it, run by the emulator."""

    max_dynamic_shared_size_bytes = 48 * 1024
    max_threads_per_block, num_regs = 1024, 32

    def __init__(self, source: Any, kernel: str, macros: Any) -> None:
        self.source, self.kernel, self.macros = source, kernel, dict(macros)

    def __call__(self, grid: Any, block: Any, arguments: tuple, *, shared_mem: int = 0) -> None:
        if np.prod(block) > self.max_threads_per_block:
            raise CUDADriverError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch")
        machine.launches.append(self.kernel)
        pointers = [parameter.is_pointer for parameter in self.source.signature(self.kernel)]
        given = [self._plain(argument, is_pointer) for argument, is_pointer in zip(arguments, pointers)]
        cusim.launch(KernelCall(self.source, self.kernel, self.macros, grid, block, given, shared_mem))

    def _plain(self, argument: Any, is_pointer: bool) -> Any:
        if not is_pointer:
            assert isinstance(argument, np.generic)
            return argument
        if isinstance(argument, np.uint64) and argument == 0:
            return None
        assert isinstance(argument, ndarray)
        return argument._values


def install(monkeypatch: Any) -> Machine:
    """Put the stand-in in the place of CuPy, of the GPU and of its compiled kernels, until the test ends."""
    machine.__init__()
    monkeypatch.setattr(detect, "require_gpu", lambda: detect.Gpu("Example 4000", (8, 0), (12, 4)))
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    # tinynet/backends/cuda/gpu.py imports CuPy: it is imported anew, and what was there before comes back afterwards.
    name = "tinynet.backends.cuda.gpu"
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(tinynet.backends.cuda, "gpu", None, raising=False)
    del sys.modules[name]
    gpu = importlib.import_module(name)
    monkeypatch.setattr(gpu, "_function", EmulatedFunction)
    return machine
