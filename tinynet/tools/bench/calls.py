"""The kernel calls that `bench ops` times.

They are the calls of a training step of the U-Net; for an op that the U-Net does not use, the largest call in the nets
of the lectures; for a few ops, the calls of sizes.py; and for every other kernel one of its cases. Nothing here knows
an op: the nets are watched
while they train, so that a new op is measured at the sizes at which it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from ... import nn
from ...backends import registry
from .examples import BATCHES, net_step, new_net, new_unet, train_step
from .processes import timed
from .profile import shapes_of
from .sizes import calls_at_sizes
from .work import flops

LARGE = 2**20  # elements in the largest array of a case


@dataclass(frozen=True)
class Floats:
    """Stands for an array of floats, because to keep all activations of a step would take gigabytes."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Values in [0, 1), which every kernel can take."""
        return np.asarray(rng.random(self.shape, np.float32), self.dtype)


ARRAYS = (np.ndarray, Floats)


@dataclass
class Call:
    """One call of a kernel.

    arrays: its positional arguments, with Floats for arrays of floats. Arrays of integers (indices, targets) are kept,
    because a kernel takes only certain values. parameters: its keywords. shapes: for the table.
    per_step: how often a step of the U-Net makes this call.
    """

    op: str
    kernel: str
    arrays: tuple
    parameters: dict[str, Any]
    shapes: str
    per_step: int = 0

    @property
    def size(self) -> int:
        return sum(array.size for array in arrays_in(self.arrays))

    def arguments(self, rng: np.random.Generator) -> tuple:
        """The positional arguments to call the kernel with."""
        return each(self.arrays, lambda a: a.draw(rng) if isinstance(a, Floats) else a)


Calls = dict[tuple[str, str, str], Call]  # by op, kernel and shapes


def each(arguments: Any, change: Callable[[Any], Any]) -> Any:
    """The arguments, each changed, and also the elements of lists and tuples (Adam takes lists of arrays)."""
    if type(arguments) in (list, tuple):  # a NamedTuple, such as Geometry, is one argument
        return type(arguments)(each(a, change) for a in arguments)
    return change(arguments)


def arrays_in(values: Any) -> Iterator[Any]:
    """All arrays among values, also those in lists and tuples."""
    if isinstance(values, ARRAYS):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from arrays_in(value)


# ---------------------------------------------------------------------------------------- watching a step
def calls_of(step: Callable[[], Any]) -> Calls:
    """The kernel calls that step() makes."""
    calls: Calls = {}
    lookup = registry.implementation_kernel

    def noted(argument: Any) -> Any:
        is_float = isinstance(argument, np.ndarray) and argument.dtype.kind == "f"
        return Floats(argument.shape, argument.dtype) if is_float else argument

    def noting_kernel(op: str, name: str, *which: Any) -> Callable:
        function = lookup(op, name, *which)

        def call(*arrays: Any, **parameters: Any) -> Any:
            key = (op, name, shapes_of(arrays))
            if key not in calls:
                plain = {name: value for name, value in parameters.items() if name != "out"}
                calls[key] = Call(op, name, each(arrays, noted), plain, key[2])
            calls[key].per_step += 1
            return function(*arrays, **parameters)

        return call

    noting_kernel.cache_clear = lookup.cache_clear  # use_kernels calls it
    with mock.patch.object(registry, "implementation_kernel", noting_kernel):
        step()
    return calls


def unet_calls(batch: int, size: int) -> list[Call]:
    """The kernel calls of a training step, and the calls of the plain layers that its fused kernels replace."""
    step = train_step(new_unet(), batch, size)
    calls = calls_of(step)
    with layer_by_layer():
        plain = calls_of(step)
    return [*calls.values(), *without_count(call for key, call in plain.items() if key not in calls)]


@contextlib.contextmanager
def layer_by_layer() -> Iterator[None]:
    """Inside `with`, an nn.Sequential calls its layers one after the other and fuses nothing."""

    def forward(sequential: nn.Sequential, x: Any) -> Any:
        for layer in sequential:
            x = layer(x)
        return x

    with mock.patch.object(nn.Sequential, "forward", forward):
        yield


def largest_calls_of_nets() -> list[Call]:
    """For each kernel, the call with the largest arrays in training steps of the nets of `bench nets`."""
    found = [call for net in BATCHES for call in calls_of(net_step(*new_net(net), net)).values()]
    return without_count({(c.op, c.kernel): c for c in sorted(found, key=lambda c: c.size)}.values())


def without_count(calls: Iterable[Call]) -> list[Call]:
    """Calls that a step of the U-Net does not make."""
    return [dataclasses.replace(call, per_step=0) for call in calls]


# ---------------------------------------------------------------------------------------- cases
def case_call(op: str, kernel: str, least: int | None = None) -> Call:
    """The call of a kernel in the first of its large cases, or else in its largest case.

    The images of the case are repeated until the largest array has `least` elements, by default LARGE.
    """
    cases = registry.op_part(op, "cases").cases
    small, every = ([c for c in cases(np.random.default_rng(0), large=large) if kernel in c.calls] for large in (0, 1))
    large = [case.calls[kernel] for case in every if case.label not in {c.label for c in small}]
    by_size = sorted((case.calls[kernel] for case in every), key=lambda call: sum(a.size for a in arrays_in(call[0])))
    arrays, parameters = large[0] if large else by_size[-1]
    arrays = each(arrays, lambda a: a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a)
    arrays = more_images(arrays, LARGE if least is None else least)
    return Call(op, kernel, arrays, parameters, shapes_of(arrays))


def more_images(arrays: tuple, least: int) -> tuple:
    """Repeat the images of all arrays that have as many as the largest array, until that array has `least` elements."""
    largest = max(arrays_in(arrays), key=np.size)
    if largest.ndim == 0 or not 0 < largest.size < least:
        return arrays
    copies = least // largest.size

    def repeat(a: Any) -> Any:
        has_images = isinstance(a, np.ndarray) and a.ndim > 0 and len(a) == len(largest)
        return np.concatenate([a] * copies) if has_images else a

    return each(arrays, repeat)


def sized_call(op: str, kernel: str, arrays: tuple, parameters: dict[str, Any]) -> Call:
    """The call of a row of `calls_at_sizes`, whose arrays of floats are given as shapes."""
    arrays = tuple(Floats(a, np.dtype(np.float32)) if isinstance(a, tuple) else a for a in arrays)
    stride = max(parameters["geometry"].stride) if "geometry" in parameters else 1
    labels = ["x".join(map(str, a.shape)) for a in arrays] + ([f"stride {stride}"] if stride > 1 else [])
    return Call(op, kernel, arrays, parameters, ", ".join(labels))


def all_calls(batch: int, size: int, ops: Sequence[str]) -> list[Call]:
    """The calls of these ops, sorted by op and kernel."""
    calls = [call for call in unet_calls(batch, size) if call.op in ops]
    wanted = {(op, name) for op in ops for name in registry.kernel_names(op)} - {(c.op, c.kernel) for c in calls}
    if not set(ops) <= {call.op for call in calls}:
        calls += [call for call in largest_calls_of_nets() if (call.op, call.kernel) in wanted]
        wanted -= {(call.op, call.kernel) for call in calls}
    calls += [sized_call(*row) for row in calls_at_sizes(ops, size)]
    calls += [case_call(op, name) for op, name in wanted - {(call.op, call.kernel) for call in calls}]
    return sorted(calls, key=lambda call: (call.op, call.kernel))


# ---------------------------------------------------------------------------------------- in the child process
def start(batch: str, size: str, *ops: str) -> tuple[dict[str, Any], Callable]:
    """Find the calls; asked for {"call": its number, "implementation": its name}, time it."""
    calls = all_calls(int(batch), int(size), ops)
    rng = np.random.default_rng(0)

    def respond(request: dict[str, Any]) -> dict[str, Any]:
        call = calls[request["call"]]
        function = function_of(call, request["implementation"])
        arrays = call.arguments(rng)
        result = function(*arrays, **call.parameters)  # compiles
        return {
            "ms": timed(lambda: function(*arrays, **call.parameters)),
            "flops": flops(call.op, call.kernel, arrays, call.parameters, result),
            "bytes": sum(array.nbytes for array in arrays_in((arrays, result))),
        }

    return {"calls": [described(call) for call in calls]}, respond


def described(call: Call) -> dict[str, Any]:
    """A call as JSON: the shapes of its positional arguments, None if they are no arrays; all others by name."""
    values = {name: v._asdict() if hasattr(v, "_asdict") else v for name, v in named_arguments(call).items()}
    plain = {name: v for name, v in values.items() if isinstance(v, (int, float, tuple, list, dict))}
    return {
        "op": call.op,
        "kernel": call.kernel,
        "shapes": call.shapes,
        "per_step": call.per_step,
        "arrays": [each(a, lambda a: list(a.shape)) if list(arrays_in(a)) else None for a in call.arrays],
        "parameters": {name: v for name, v in plain.items() if not list(arrays_in(v))},
        "implementations": list(implementations_of(call)),
    }


def implementations_of(call: Call) -> dict[str, str | None]:
    """Which versions a call can run: name of the version -> implementation to ask for, the default first.

    An implementation may leave a call to another version, which its module's `version_of` tells: each version is listed
    once. The last one is the definition, "reference", for which no implementation is asked.
    """
    module = registry.tier_module(call.op, "cpu")
    found: dict[str, str | None] = {}
    for name, kernels in getattr(module, "IMPLEMENTATIONS", {"default": {}}).items():
        has_versions = call.kernel in kernels and hasattr(module, "version_of")
        version = module.version_of(call.kernel, named_arguments(call), name) if has_versions else "default"
        found.setdefault(version, name)
    definition = registry.implementation_kernel(call.op, call.kernel, "reference")
    runs_definition = getattr(module, call.kernel, None) is definition
    return {"reference": None} if runs_definition else {**found, "reference": None}


def named_arguments(call: Call) -> dict[str, Any]:
    """All arguments of a call by their names in reference.py."""
    signature = inspect.signature(registry.implementation_kernel(call.op, call.kernel, "reference"))
    return signature.bind(*call.arrays, **call.parameters).arguments


def function_of(call: Call, version: str) -> Callable:
    """The function of a version of `implementations_of`."""
    implementation = implementations_of(call)[version]
    tier = "reference" if implementation is None else "cpu"
    return registry.implementation_kernel(call.op, call.kernel, tier, implementation)
