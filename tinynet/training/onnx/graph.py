"""The graph of an ONNX file: nodes, and arrays that are stored in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...engine.tensor import Tensor
from .trace import key


class Graph:
    """Nodes in the order in which they run, and the names of all values.

    names: key of a value -> its name in the graph. arrays: name -> an array that is stored in the file.
    """

    def __init__(self) -> None:
        from onnx import helper

        self.make_node = helper.make_node
        self.nodes: list[Any] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.names: dict[int, str] = {}

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node. Returns the name of its output, or a list of names if `outputs` is larger than 1."""
        names = [f"{op.lower()}_{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(self.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def store(self, array: Any, name: str | None = None) -> str:
        """Store an array in the file; its name."""
        name = name or f"constant_{len(self.arrays)}"
        self.arrays[name] = np.asarray(array, order="C")
        return name

    def integers(self, *values: int) -> str:
        """A stored list of integers, such as a shape."""
        return self.store(np.array(values, np.int64))

    def name_of(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of an argument: of a Tensor that a node made, or of a constant, which is stored. "" for None.

        dtype: of a constant that is a Python number.
        """
        if value is None:
            return ""
        if key(value) not in self.names:
            if not isinstance(value, (Tensor, np.ndarray)):
                return self.store(np.asarray(value, dtype))
            self.names[key(value)] = self.store(value.numpy() if isinstance(value, Tensor) else value)
        return self.names[key(value)]

    def arrays_in_use(self) -> dict[str, np.ndarray]:
        """The stored arrays that a node reads: a kernel that was transposed is stored once."""
        bodies = [node for n in self.nodes for a in n.attribute for node in a.g.node]
        read = {name for node in [*self.nodes, *bodies] for name in node.input}
        return {name: array for name, array in self.arrays.items() if name in read}

    def transposed(self, name: str, axes: tuple[int, ...]) -> str:
        """A value with its axes in another order. A stored array is transposed here, once for all."""
        if name in self.arrays:
            return self.store(self.arrays[name].transpose(axes), f"{name}_transposed")
        return self.add("Transpose", name, perm=axes)

    def channels_first(self, name: str, ndim: int) -> str:
        """ONNX convolves (N, C, ...), tinynet (N, ..., C)."""
        return self.transposed(name, (0, ndim - 1, *range(1, ndim - 1)))

    def channels_last(self, name: str, ndim: int) -> str:
        return self.transposed(name, (0, *range(2, ndim), 1))
