"""The kernel calls that `bench ops` times: those of a step of the U-Net; for rooms it does not use the largest of the
lectures' other nets; and for those that no net uses a case of theirs.

Nothing here knows an op. A step of the real net is watched, and every call of a kernel is noted by its shapes, so
that a new room is measured at the sizes at which it is used.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from ... import nn
from ...backends import registry as kernels
from .examples import BATCHES, net_step, new_net, new_unet, train_step
from .processes import timed
from .profile import shapes_of
from .work import flops

LARGE = 2**20  # numbers in the largest array of a room that the U-Net does not use


@dataclass(frozen=True)
class Floats:
    """Stands for an array of floats, because keeping all activations of a step would take gigabytes."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Values in [0, 1), which every kernel can take."""
        return np.asarray(rng.random(self.shape, np.float32), self.dtype)


@dataclass
class Call:
    """One call of a kernel that was seen.

    arrays: its arguments, with Floats for arrays of floats. Others (indices, targets) are kept, as not every integer
    will do. parameters: its keywords. per_step: how often a step of the U-Net calls it with these shapes.
    """

    op: str
    kernel: str
    arrays: tuple
    parameters: dict[str, Any]
    shapes: str
    per_step: int = 0

    def arguments(self, rng: np.random.Generator) -> tuple:
        """The arguments to call it with."""
        return _each(self.arrays, lambda a: a.draw(rng) if isinstance(a, Floats) else a)


def _each(arguments: Any, change: Callable[[Any], Any]) -> Any:
    """The arguments, each changed, those within lists (Adam takes lists of arrays), too."""
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(_each(a, change) for a in arguments)
    return change(arguments)


def _noted(argument: Any) -> Any:
    is_float = isinstance(argument, np.ndarray) and argument.dtype.kind == "f"
    return Floats(argument.shape, argument.dtype) if is_float else argument


Calls = dict[tuple[str, str, str], Call]  # by op, kernel and shapes


def calls_of(step: Callable[[], Any]) -> Calls:
    """The kernel calls that step() makes."""
    calls: Calls = {}
    lookup = kernels.implementation_kernel

    def noting_kernel(op: str, name: str, *which: Any) -> Callable:
        function = lookup(op, name, *which)

        def call(*arrays: Any, **parameters: Any) -> Any:
            key = (op, name, shapes_of(arrays))
            if key not in calls:
                plain = {name: value for name, value in parameters.items() if name != "out"}
                calls[key] = Call(op, name, _each(arrays, _noted), plain, key[2])
            calls[key].per_step += 1
            return function(*arrays, **parameters)

        return call

    with mock.patch.object(kernels, "implementation_kernel", noting_kernel):
        step()
    return calls


def unet_calls(batch: int, size: int) -> Calls:
    """The kernel calls of a training step, and those of the plain layers that its fused kernels stand for."""
    step = train_step(new_unet(), batch, size)
    calls = calls_of(step)
    with layer_by_layer():
        plain = calls_of(step)
    for key, call in plain.items():
        if key not in calls:
            call.per_step = 0
            calls[key] = call
    return calls


def largest_calls_of_nets() -> list[Call]:
    """Of each kernel, the call with the most numbers in training steps of the nets of `bench nets`."""
    largest: dict[tuple[str, str], Call] = {}
    for net in BATCHES:
        for call in calls_of(net_step(*new_net(net), net)).values():
            call.per_step = 0
            before = largest.setdefault((call.op, call.kernel), call)
            if _numbers(call) > _numbers(before):
                largest[call.op, call.kernel] = call
    return list(largest.values())


def _numbers(call: Call) -> int:
    """How many numbers its arguments hold."""
    return sum(math.prod(a.shape) for a in _arrays(call.arrays, (np.ndarray, Floats)))


@contextlib.contextmanager
def layer_by_layer() -> Iterator[None]:
    """Inside `with`, an nn.Sequential calls its layers one after the other and fuses nothing."""

    def forward(sequential: nn.Sequential, x: Any) -> Any:
        for layer in sequential:
            x = layer(x)
        return x

    with mock.patch.object(nn.Sequential, "forward", forward):
        yield


def case_call(op: str, kernel: str, least: int | None = None) -> Call:
    """A kernel at the first of its room's large cases (or the largest), with the images repeated until there are many.

    least: how many numbers there shall be in the largest array, by default LARGE.
    """
    cases = importlib.import_module(f"tinynet.ops.{op}.cases").cases
    small, every = ([c for c in cases(np.random.default_rng(0), large=large) if kernel in c.calls] for large in (0, 1))
    large = [case.calls[kernel] for case in every if case.label not in {c.label for c in small}]
    arrays, parameters = large[0] if large else max((case.calls[kernel] for case in every), key=_size)
    arrays = _each(arrays, lambda a: a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a)
    arrays = more_images(arrays, LARGE if least is None else least)
    return Call(op, kernel, arrays, parameters, shapes_of(arrays))


def _size(call: tuple[tuple, dict]) -> int:
    return sum(a.size for a in _arrays(call[0]))


def more_images(arrays: tuple, least: int) -> tuple:
    """Arrays with as many images as the largest one are repeated along that axis, until it has `least` numbers."""
    largest = max(_arrays(arrays), key=np.size)
    if largest.ndim == 0 or not 0 < largest.size < least:
        return arrays
    copies = least // largest.size

    def repeat(a: Any) -> Any:
        has_images = isinstance(a, np.ndarray) and a.ndim > 0 and len(a) == len(largest)
        return np.concatenate([a] * copies) if has_images else a

    return _each(arrays, repeat)


def all_calls(batch: int, size: int, ops: tuple[str, ...]) -> list[Call]:
    """The calls of these ops, by op and kernel."""
    calls = [call for call in unet_calls(batch, size).values() if call.op in ops]
    seen = {(call.op, call.kernel) for call in calls}
    if not set(ops) <= {op for op, _ in seen}:
        calls += [call for call in largest_calls_of_nets() if call.op in ops and (call.op, call.kernel) not in seen]
        seen = {(call.op, call.kernel) for call in calls}
    calls += [case_call(op, name) for op in ops for name in kernels.kernel_names(op) if (op, name) not in seen]
    return sorted(calls, key=lambda call: (call.op, call.kernel))


# ---------------------------------------------------------------------------------------- in the child process
def start(batch: str, size: str, *ops: str) -> tuple[dict[str, Any], Callable]:
    """Find the calls; asked for {"call": its number, "implementation": its name}, time it."""
    calls = all_calls(int(batch), int(size), ops)
    rng = np.random.default_rng(0)

    def respond(request: dict[str, Any]) -> dict[str, Any]:
        call = calls[request["call"]]
        function = kernels.implementation_kernel(call.op, call.kernel, "cpu", request["implementation"])
        arrays = call.arguments(rng)
        result = function(*arrays, **call.parameters)  # compiles
        return {
            "ms": timed(lambda: function(*arrays, **call.parameters)),
            "flops": flops(call.op, call.kernel, arrays, call.parameters, result),
            "bytes": sum(array.nbytes for array in _arrays((arrays, result))),
        }

    return {"calls": [_described(call) for call in calls]}, respond


def _arrays(values: Any, kinds: tuple[type, ...] = (np.ndarray,)) -> Iterator[Any]:
    """All arrays among values, those in lists, too."""
    if isinstance(values, kinds):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _arrays(value, kinds)


def _described(call: Call) -> dict[str, Any]:
    """A call as JSON; of its arrays only the shapes, lists of them for lists of arrays, None for what is no array."""
    return {
        "op": call.op,
        "kernel": call.kernel,
        "shapes": call.shapes,
        "per_step": call.per_step,
        "arrays": _each(list(call.arrays), lambda a: list(a.shape) if isinstance(a, (Floats, np.ndarray)) else None),
        "parameters": {name: v for name, v in call.parameters.items() if isinstance(v, (int, float, tuple, list))},
        "implementations": implementations_of(call.op, call.kernel),
    }


def implementations_of(op: str, kernel: str) -> list[str]:
    """The implementations of a kernel that differ, the default first: some have only one of an op's kernels."""
    names = kernels.implementations(op, "cpu")
    functions = {name: kernels.implementation_kernel(op, kernel, "cpu", name) for name in names}
    first: dict[Callable, str] = {}  # the name under which each function comes first
    for name, function in functions.items():
        first.setdefault(function, name)
    return list(first.values())
