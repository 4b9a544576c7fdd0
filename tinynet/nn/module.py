"""Module: a part of a model that owns parameters and other modules.

A module searches its attributes whenever it is asked for its parameters. The type decides what an attribute is. A
`Parameter` is trained, and only a parameter can replace it. A `Module` is a part, whose parameters are found the same
way. Both are also found in lists, tuples and dicts, nested as deeply as you like: `self.blocks = {"a": [conv]}` has the
part `blocks.a.0`. They are not found in other objects, such as the closure of a lambda. An array whose name is in
`buffer_names` belongs to the state of the model although no gradient trains it (a running mean, the position of a
random stream).

    class Residual(Module):
        def __init__(self, channels):
            self.conv = Conv2d(channels, channels, 3, padding=1)
            self.scale = Parameter(np.ones(1, dtype=np.float32))
        def forward(self, x):
            return x + self.scale * self.conv(x)

    [name for name, _ in Residual(8).named_parameters()]   # ['scale', 'conv.weight', 'conv.bias']
"""

from __future__ import annotations

import contextlib
import reprlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..backends.arrays import device_of
from ..backends.context import set_inside
from ..backends.devices import to_device
from ..backends.registry import device
from ..engine.foreign import CallsExplained
from ..engine.tensor import Tensor, no_grad

_observer: ContextVar[Callable | None] = ContextVar("observer", default=None)


def observe(callback: Callable[[Module, tuple, Any], None]) -> contextlib.AbstractContextManager[None]:
    """Inside `with observe(callback):`, `callback(module, inputs, output)` runs after every call of a module.

    This is a forward hook for all modules. `summary` reads the shapes with it, and training finds the first layer whose
    output is not finite.
    """
    return set_inside(_observer, callback)


def is_observed() -> bool:
    """True inside `with observe(...)`."""
    return _observer.get() is not None


class Parameter(Tensor):
    """A tensor that is trained: a leaf that requires a gradient, found by `Module.parameters()`.

    data: an array of floats or a Tensor; the parameter shares its memory. requires_grad: False if it is frozen.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data.data if isinstance(data, Tensor) else data, requires_grad)


class Module(CallsExplained):
    """The base class of layers and models: write `__init__`, which sets attributes, and `forward`.

    training: True in training mode: dropout is active and batch norm uses batch statistics. See `train` and `eval`.
    buffer_names: names of attributes, NumPy arrays, that belong to the state but are not trained.
    """

    training: bool = True
    buffer_names: tuple[str, ...] = ()
    _prefix = ""  # left out of the names of what is inside

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a forward method")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        output = self.forward(*inputs, **options)
        callback = _observer.get()
        if callback is not None:
            callback(self, inputs, output)
        return output

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse parameters among the attributes of a class: all its objects would share them, and find none."""
        super().__init_subclass__(**options)
        for name, value in vars(cls).items():
            for path, item in _found(name, value):
                if isinstance(item, Parameter) or item.parameters():
                    raise TypeError(f"{cls.__name__}: {path} is an attribute of the class; set self.{name} in __init__")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. Raises TypeError if a parameter would be lost, as by `layer.weight = array`."""
        if isinstance(vars(self).get(name), Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{type(self).__name__}: {name} is a Parameter, the new value is a {type(value).__name__}; write "
                f"`with tn.no_grad(): layer.{name}[...] = value`, or replace it by nn.Parameter(value)"
            )
        super().__setattr__(name, value)

    # ------------------------------------------------------------------------------ parameters and parts
    def _items(self) -> Iterator[tuple[str, Any]]:
        """(name, item) of the parameters and modules directly inside, in the order in which attributes were set."""
        for name, value in vars(self).items():
            for path, item in _found(name, value):
                yield path.removeprefix(self._prefix), item

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules directly inside, in the order in which the attributes were set."""
        return ((name, item) for name, item in self._items() if isinstance(item, Module))

    def children(self) -> list[Module]:
        """The modules directly inside."""
        return [module for _, module in self.named_children()]

    def modules(self) -> list[Module]:
        """This module and all modules inside, each once."""
        return [module for _, module in self.named_modules()]

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module, named '', and all modules inside; each module once."""
        return self._walk("", set())

    def _walk(self, name: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield name, self
        for child_name, child in self.named_children():
            yield from child._walk(_join(name, child_name), seen)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of all parameters, frozen ones included; each parameter once."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, item in module._items():
                if isinstance(item, Parameter) and id(item) not in seen:
                    seen.add(id(item))
                    yield _join(prefix, name), item

    def parameters(self) -> list[Parameter]:
        """All parameters, in the order of `named_parameters()`. An optimizer takes this list."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Any]]:
        """(dotted name, array) of all state that is not trained."""
        for prefix, module in self.named_modules():
            for name in module.buffer_names:
                yield _join(prefix, name), getattr(module, name)

    def buffers(self) -> list[Any]:
        """All arrays of state that is not trained, in the order of `named_buffers()`."""
        return [array for _, array in self.named_buffers()]

    # ------------------------------------------------------------------------------ switches
    def train(self, training: bool = True) -> Module:
        """Switch this module and all inside to training mode (with False: to evaluation mode). Returns the module."""
        for _, module in self.named_modules():
            module.training = training
        return self

    def eval(self) -> Module:
        """Switch to evaluation mode: dropout is off. Returns the module."""
        return self.train(False)

    def freeze(self) -> Module:
        """Stop training all parameters: they get no gradient, and optimizers skip them. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None  # otherwise an optimizer would use the old gradient
        return self

    def zero_grad(self) -> None:
        """Delete the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def unfreeze(self) -> Module:
        """Train all parameters again. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(True)
        return self

    # ------------------------------------------------------------------------------ state
    def state_dict(self) -> dict[str, np.ndarray]:
        """Dotted name -> a NumPy copy, for every parameter and buffer."""
        return {name: np.array(to_device(array, "cpu")) for name, array in self._arrays().items()}

    def _arrays(self) -> dict[str, Any]:
        """Dotted name -> the array itself, of every parameter and buffer."""
        named = [*((name, parameter.data) for name, parameter in self.named_parameters()), *self.named_buffers()]
        arrays = dict(named)
        if len(arrays) < len(named):  # {1: a, "1": b}
            names = [name for name, _ in named]
            doubled = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"{type(self).__name__}: several arrays are named {doubled}; rename the keys of the dict")
        return arrays

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy the arrays of a state dict into the parameters and buffers of the same names.

        Values are converted to the model's dtype, so float16 weights load into a float32 model. With strict=False,
        missing and unknown names are ignored. If anything does not fit, nothing is changed and a ValueError names the
        missing names, the unknown names and the shapes that differ.
        """
        arrays = self._arrays()
        common = [name for name in arrays if name in state]
        problems = {
            "missing": [name for name in arrays if name not in state] if strict else [],
            "unknown to the model": [name for name in state if name not in arrays] if strict else [],
            "no numbers, or masked": [name for name in common if not _holds_numbers(state[name])],
            "of another shape": [
                f"{name} has shape {np.shape(state[name])}, {arrays[name].shape} is needed"
                for name in common
                if np.shape(state[name]) != arrays[name].shape
            ],
        }
        lines = [f"{problem}: {_shortened(names)}" for problem, names in problems.items() if names]
        if lines:
            raise ValueError(f"the state does not fit this {type(self).__name__}\n  " + "\n  ".join(lines))
        for name in common:
            arrays[name][...] = to_device(np.asarray(state[name]), device_of(arrays[name]))
        with no_grad():
            for parameter in self.parameters():
                parameter.changed_in_place()

    def to(self, device: str) -> Module:
        """Move parameters, their gradients and buffers of floats to 'cpu' or 'cuda'; return the module.

        Buffers of integers are counters that the CPU reads, so they stay there. Move a model before the optimizer's
        first step: the optimizer creates its state on the device where the parameters are then.
        """
        return self._convert(lambda array: to_device(array, device))

    def astype(self, dtype: Any) -> Module:
        """Convert parameters and buffers of floats to another float dtype; return the module."""
        return self._convert(lambda array: array.astype(dtype, copy=False))

    def _convert(self, change: Callable[[Any], Any]) -> Module:
        for parameter in self.parameters():
            parameter.data = change(parameter.data)
            if parameter.grad is not None:
                parameter.grad = Tensor(change(parameter.grad.data))
        for _, module in self.named_modules():
            for name in module.buffer_names:
                array = getattr(module, name)
                if array.dtype.kind == "f":
                    setattr(module, name, change(array))
        return self

    @reprlib.recursive_repr()  # a part may hold the module that it is in
    def __repr__(self) -> str:
        settings = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if (isinstance(value, (int, float, str)) and name != "training") or _is_pair(value)
        ]
        children = [f"  {name}: {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        return "\n".join([f"{type(self).__name__}({', '.join(settings)})", *children])


def predict(model: Callable[[Tensor], Tensor], x: np.ndarray, batch: int = 500) -> np.ndarray:
    """The output of a model for the examples x (N, ...), as a NumPy array: no gradients, `batch` examples at a time.

    model: a module, or any function of a Tensor. It is called on the device of the backend in use. A model with dropout
    or batch norm must be in evaluation mode (`model.eval()`).
    """
    with no_grad():
        parts = [model(Tensor(to_device(x[i : i + batch], device()))) for i in range(0, max(1, len(x)), batch)]
    return np.concatenate([part.numpy() for part in parts])


_SEARCHED = (Tensor, Module, Mapping, list, tuple, deque, set, frozenset, np.ndarray)


def _holds_numbers(array: Any) -> bool:
    """True for an array of numbers, float16 included, without a mask."""
    return getattr(array, "dtype", np.asarray(array).dtype).kind in "biuf" and not isinstance(array, np.ma.MaskedArray)


def _found(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(dotted name, item) of every Parameter and Module in an attribute, inside nested lists, tuples and dicts, too."""
    if isinstance(value, (Parameter, Module)):
        yield name, value
    elif isinstance(value, (Mapping, list, tuple, deque)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(item, _SEARCHED):  # a long list of numbers is passed over quickly
                yield from _found(f"{name}.{key}", item)
    elif isinstance(value, (set, frozenset)) or (isinstance(value, np.ndarray) and value.dtype == object):
        items = value.ravel() if isinstance(value, np.ndarray) else value
        if any(isinstance(item, (Parameter, Module)) for item in items):
            raise TypeError(
                f"{name} is a {type(value).__name__} of modules or parameters; use a list, or nn.ModuleList"
            )


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, int) for item in value)


def _shortened(names: list[str], most: int = 8) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
