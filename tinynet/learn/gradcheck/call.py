"""Calls of the function under test: on new leaf tensors, with copies in and copies out, with frozen randomness."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...backends.arrays import device_of
from ...backends.devices import to_device
from ...engine import random
from ...engine.tensor import Tensor, grad

Gradients = dict[int, np.ndarray]  # by the number of the input


# ---------------------------------------------------------------------------------------- inputs
def float64_inputs(inputs: Sequence[Any]) -> list[np.ndarray]:
    """Copies of the inputs as arrays. Floats must be float64: float32 has too few digits for differences.

    Raises TypeError if the inputs are not a list or tuple of such arrays, or if none can be differentiated.
    """
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(f"gradcheck: inputs is a {type(inputs).__name__}; a tuple or list of arrays is needed")
    arrays = [(x.data if isinstance(x, Tensor) else np.asarray(x)).copy(order="K") for x in inputs]
    for i, a in enumerate(arrays):
        if a.dtype.kind not in "iub" and a.dtype != np.float64:
            raise TypeError(f"gradcheck: input {i} is {a.dtype}; float64 is needed, e.g. x.astype('float64')")
    if not any(a.dtype == np.float64 for a in arrays):
        listed = ", ".join(f"input {i} is {a.dtype}" for i, a in enumerate(arrays)) or "there are no inputs"
        raise TypeError(
            f"gradcheck: none of the inputs is float64, there is nothing to differentiate: {listed}. Integers have "
            "no derivative; pass x.astype('float64')"
        )
    return arrays


def on_cpu(fn: Callable[..., Tensor], inputs: Sequence[Any]) -> tuple[Callable[..., Tensor], Sequence[Any]]:
    """fn and its inputs on the CPU, where the checks compute. If the inputs lie on a GPU, fn still works there."""
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs] if isinstance(inputs, (list, tuple)) else []
    if all(device_of(a) == "cpu" for a in arrays):
        return fn, inputs

    @functools.wraps(fn)
    def there_and_back(*tensors: Tensor) -> Tensor:
        return fn(*(t.to("cuda") for t in tensors)).to("cpu")

    return there_and_back, [to_device(a, "cpu") for a in arrays]


def argument_names(fn: Callable, count: int) -> list[str]:
    """The names of the first `count` arguments of fn; '' for each if fn takes *args or has no signature."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())[:count]
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return named if len(named) == count else [""] * count


def usual_axes(name: str, ndim: int) -> tuple[str, ...] | None:
    """The axes of images, channels last, or of a weight; None unless there are four axes."""
    if ndim != 4:
        return None
    return ("kh", "kw", "axis 2", "axis 3") if name in ("w", "weight") else ("n", "h", "w", "c")


def check_finite(output: np.ndarray, arrays: Sequence[np.ndarray]) -> None:
    """Raise ValueError if an input or the output is infinite or NaN, with the first such element."""
    for i, a in enumerate(arrays):
        if not np.isfinite(a).all():
            raise ValueError(f"gradcheck: input {i} is not finite: {_first_not_finite(a)}")
    if not np.isfinite(output).all():
        raise ValueError(
            f"gradcheck: the output of fn is not finite: {_first_not_finite(output)}. Where fn is undefined it has "
            "no derivative; check it at other inputs"
        )


def _first_not_finite(array: np.ndarray) -> str:
    index = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
    return f"{array[index]} at {list(index)}"


def random_gradient(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random values between 0.5 and 1.5 of either sign: no factor is near zero, which would hide an output."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.5, 1.5, size=shape)


# ---------------------------------------------------------------------------------------- calls
def output_of(fn: Callable[..., Tensor], arrays: Sequence[np.ndarray]) -> np.ndarray:
    """A copy of the output of fn, which may be a view of an input. fn works on copies of the arrays."""
    return np.array(_call(fn, [a.copy() for a in arrays])[0].data)


def output_and_gradients(
    fn: Callable[..., Tensor], arrays: Sequence[np.ndarray], gy: np.ndarray
) -> tuple[np.ndarray, Gradients]:
    """The output of fn on these arrays, not copies, and the gradients of sum(gy * output)."""
    out, leaves = _call(fn, arrays)
    output = np.array(out.data)
    wanted = {i: leaf for i, leaf in enumerate(leaves) if leaf.requires_grad}
    if not out.requires_grad:  # out has no history at all
        return output, {i: np.zeros(leaf.shape, leaf.dtype) for i, leaf in wanted.items()}
    with random.frozen():
        gradients = grad(out, list(wanted.values()), gy)
    return output, {i: g.data.copy() for i, g in zip(wanted, gradients)}


def refused_gradients(
    fn: Callable[..., Tensor], arrays: Sequence[np.ndarray], gy: np.ndarray
) -> tuple[Gradients, Gradients] | None:
    """What backward returned, if the engine refused it: (gradients, gradients of a wrong shape).

    The engine raises an error at a gradient of another shape or dtype than its input. If fn is a single Function of
    the inputs, its backward is called here, so that the report can say what is wrong with the array. Otherwise None.
    """
    out, leaves = _call(fn, [a.copy() for a in arrays])
    creator = out.creator
    nodes = creator.inputs if creator is not None else None
    if creator is None or not nodes or not all(n is None or any(n is leaf for leaf in leaves) for n in nodes):
        return None
    with random.frozen():
        returned = creator.backward(gy.copy())
    returned = returned if isinstance(returned, tuple) else (returned,)
    if len(returned) != len(nodes):
        return None
    gradients, misshapen = {}, {}
    for i, leaf in enumerate(leaves):
        own = [g for node, g in zip(nodes, returned) if node is leaf and g is not None]
        wrong = [g for g in own if g.shape != leaf.shape]
        if wrong:
            misshapen[i] = wrong[0]
        elif leaf.requires_grad:
            gradients[i] = sum(own, np.zeros(leaf.shape)).astype(np.float64)
    return gradients, misshapen


def _call(fn: Callable[..., Tensor], arrays: Sequence[np.ndarray]) -> tuple[Tensor, list[Tensor]]:
    """(output, leaves). Raises TypeError if the output is not a Tensor, or not float64 although an input is."""
    leaves = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    with random.frozen():
        out = fn(*leaves)
    is_float64 = any(a.dtype == np.float64 for a in arrays)
    if isinstance(out, Tensor) and (out.dtype == np.float64 or not is_float64):
        return out, leaves
    hint = ""
    if isinstance(out, (tuple, list)):
        what, hint = f"a {type(out).__name__} of {len(out)}", "; choose one of them: lambda x: fn(x)[0]"
    elif out is None:
        what, hint = "None", "; does it lack its `return`?"
    else:
        what = str(out.dtype) if isinstance(out, Tensor) else f"a {type(out).__name__}"
    raise TypeError(f"gradcheck: fn returned {what}; a Tensor of float64 is needed{hint}")
