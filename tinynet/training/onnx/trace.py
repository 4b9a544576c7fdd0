"""Which operations a model runs: a list of calls, recorded while it computes an example."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine.tensor import Function, Tensor, no_grad
from ...nn.module import Module


@dataclass
class Call:
    """One call of an operation: its class, its arguments, its keyword arguments, and its outputs."""

    function: type[Function]
    arguments: tuple
    parameters: dict[str, Any]
    outputs: tuple


@contextlib.contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """Inside `with`, every operation on a Tensor adds a Call to the list.

    All operations run through `Function.apply`, so it is replaced for this time.
    """
    calls: list[Call] = []
    original = Function.__dict__["apply"]

    def apply(cls: type[Function], *arguments: Any, **parameters: Any) -> Any:
        result = original.__func__(cls, *arguments, **parameters)
        if any(isinstance(a, Tensor) for a in arguments):
            calls.append(Call(cls, arguments, parameters, result if isinstance(result, tuple) else (result,)))
        return result

    Function.apply = classmethod(apply)  # type: ignore[method-assign, assignment]
    try:
        yield calls
    finally:
        Function.apply = original  # type: ignore[method-assign]


@dataclass
class Trace:
    """What a model did with one example."""

    inputs: list[Tensor]
    calls: list[Call]
    outputs: list[Tensor]


def trace(model: Module, arrays: list[np.ndarray]) -> Trace:
    """Run the model in evaluation mode, without a graph for gradients, and record its calls.

    Raises TypeError if it returns anything but Tensors, or tuples of them.
    """
    inputs = [Tensor(array) for array in arrays]
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with no_grad(), recorded_calls() as calls:
            result = model(*inputs)
    finally:
        for module, mode in training.items():
            module.training = mode
    return Trace(inputs, calls, list(_tensors(result)))


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from _tensors(part)
    elif isinstance(result, Tensor):
        yield result
    else:
        raise TypeError(f"export_onnx: the model returned a {type(result).__name__}; Tensors are needed")


def key(value: Any) -> int:
    """What identifies a value: its array, because an operation may take the array out of a Tensor."""
    return id(value._data if isinstance(value, Tensor) else value)


def dependent_on_values(first: Trace, second: Trace) -> str | None:
    """The operation in which two runs with different values in the input differ in more than their Tensors.

    Such a model cannot be exported: a file of ONNX holds one list of operations. None if there is no such difference.
    """
    if [call.function for call in first.calls] != [call.function for call in second.calls]:
        return "the model"
    made = {key(t) for run in (first, second) for t in run.inputs}
    for one, other in zip(first.calls, second.calls):
        constants = zip((*one.arguments, *one.parameters.values()), (*other.arguments, *other.parameters.values()))
        if not all(_equal(a, b, made) for a, b in constants):
            return one.function.op_name()
        made |= {key(output) for output in (*one.outputs, *other.outputs)}
    return None


def _equal(a: Any, b: Any, made: set[int]) -> bool:
    """Whether two values are the same constant, or both were made by the graph."""
    if key(a) in made and key(b) in made:
        return True
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(_equal(*pair, made) for pair in zip(a, b))
    if isinstance(a, (Tensor, np.ndarray)):
        first, second = (value.numpy() if isinstance(value, Tensor) else value for value in (a, b))
        return np.array_equal(first, second)
    return bool(a == b)
