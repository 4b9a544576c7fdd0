"""What all activations share on Tensors: the Function, and the kernels of the reference, both made of two formulas."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ...backends.registry import Kernel
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float

# Op -> its entry, in the order of entries.py.
ACTIVATIONS: dict[str, type[Activation]] = {}


class Activation(Function):
    """y = value(x), element by element. A subclass, `class Relu(Activation, op="relu")`, is the entry of an activation.

    value(x): y. gradient(gy, y): gx, of the output y, because the next layer keeps it anyway. Both are written with
    operators and the functions of `_shared/formulas.py`: NumPy evaluates them on arrays (the reference), Numba compiles
    them for single elements (cpu.py), and Tensors record them if a graph of the gradient is asked for. An activation
    has one parameter, the last argument of both, or none.

    parameters: the values of that parameter that are worth checking, as keyword arguments.
    kinks: where the derivative jumps; cases.py keeps away from there.
    """

    value: Callable[..., Any]
    gradient: Callable[..., Any]
    parameters: tuple[dict[str, float], ...] = ({},)
    kinks: tuple[float, ...] = ()
    op: str
    has_parameter: bool
    kernels: SimpleNamespace  # forward, backward: the dispatch points

    def __init_subclass__(cls, op: str) -> None:
        cls.op, cls.has_parameter = op, cls.parameters != ({},)
        cls.kernels = SimpleNamespace(
            forward=Kernel(cls.value, op, "forward"), backward=Kernel(cls.gradient, op, "backward")
        )
        ACTIVATIONS[op] = cls

    @classmethod
    def op_name(cls) -> str:
        return cls.op

    @classmethod
    def of(cls, x: Tensor, **parameters: float) -> Tensor:
        """The activation of x. Raises TypeError unless x is a Tensor or an array of floating-point numbers."""
        check_float(cls.op, x=x)
        return cls.apply(x, **parameters)

    def forward(self, x, **parameters):
        y = self.kernels.forward(x, **parameters)
        self.save(y)
        self.given = parameters
        return y

    def backward(self, gy):
        return self.kernels.backward(gy, *self.saved, **self.given)

    def backward_graph(self, gy):
        return self.gradient(gy, *self.saved, **self.given)
