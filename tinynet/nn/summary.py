"""A table of a model's layers: the output of each, its cost, and its receptive field.

The model runs once, and every call of a layer (a module with no modules inside) becomes a row.

The receptive field of a value is the range of input pixels, along each axis, that it depends on. Every layer says which
of its inputs an output reads, and the output sees what these inputs see, from the first pixel to the last:

    window of k taps, dilation d, stride s, padding p     output o reads inputs o s - p + j d,  0 <= j < k
    transposed convolution                                the inputs i with i s - p + j d = o for some j

(Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.) The well-known short form,
"field += (k - 1) jump, jump *= s", gives the same for a chain of convolutions, but not after a transposed convolution:
there neighboring values may read one input or two, so the field differs from one value to the next, and the short form
can be too small. For tiles without visible seams the exact field is needed.

Where branches meet (concat, add), a value sees what any of them sees. The graph of the computation says which branches
meet, so any code may stand between the layers.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.tensor import Function, Node, Tensor
from .layers import Conv2d, ConvTranspose2d, Linear
from .module import Module, observe
from .pooling import MaxUnpool2d, Pooling


@dataclass(frozen=True)
class Field:
    """The receptive field along one axis: value o depends on the input pixels first(o) .. last(o).

    first, last: float arrays (P,), for o = 0 .. P - 1. Strides make a pattern that repeats: value o + P sees what value
    o sees, shifted by `cycle` pixels.
    """

    first: np.ndarray
    last: np.ndarray
    cycle: int

    @property
    def size(self) -> float:
        """The size of the largest receptive field, in pixels."""
        return float((self.last - self.first).max() + 1)

    @property
    def jump(self) -> float:
        """The distance in pixels from one value to the next."""
        return self.cycle / len(self.first)

    @property
    def reach(self) -> tuple[float, float]:
        """(before, after): how far a value sees at most on either side of the pixels that it represents.

        Value o represents the pixels o jump .. (o + 1) jump - 1. If a tile begins at a multiple of `cycle`, its values
        at least this far from its border equal those computed from the whole image.
        """
        o = np.arange(len(self.first))
        before = np.floor(o * self.jump) - self.first
        after = self.last - (np.ceil((o + 1) * self.jump) - 1)
        return float(before.max()), float(after.max())

    def read(self, inputs: np.ndarray, cycle: int, exists: np.ndarray | bool = True) -> Field:
        """The field after a layer whose output o reads the existing ones of `inputs[o]`; inputs: ints (P', reads)."""
        period = len(self.first)
        shift = inputs // period * self.cycle
        first = np.where(exists, self.first[inputs % period] + shift, np.inf).min(axis=1)
        last = np.where(exists, self.last[inputs % period] + shift, -np.inf).max(axis=1)
        return Field(first, last, cycle)

    def window(self, k: int, stride: int, padding: int, dilation: int) -> Field:
        """The field after a convolution or pooling of k taps."""
        common = math.lcm(len(self.first), stride)
        o = np.arange(common // stride)[:, None]
        return self.read(o * stride - padding + dilation * np.arange(k), self.cycle * common // len(self.first))

    def transposed_window(self, k: int, stride: int, padding: int, dilation: int) -> Field:
        """The field after a transposed convolution of k taps: along each tap, an output reads at most one input."""
        o = np.arange(len(self.first) * stride)[:, None]
        places = o + padding - dilation * np.arange(k)
        return self.read(places // stride, self.cycle, exists=places % stride == 0)

    def joined(self, other: Field) -> Field | None:
        """The field of a value computed from one value of each; None if their jumps differ."""
        if self.jump != other.jump:
            return None
        period = math.lcm(len(self.first), len(other.first))
        o = np.arange(period)[:, None]
        cycle = self.cycle * period // len(self.first)
        a, b = self.read(o, cycle), other.read(o, cycle)
        return Field(np.minimum(a.first, b.first), np.maximum(a.last, b.last), cycle)


# The field of an input pixel, and the field of a value without a position.
_PIXEL = Field(np.zeros(1), np.zeros(1), 1)
_ALL = Field(np.array([-np.inf]), np.array([np.inf]), 1)

Fields = tuple[Field, Field]  # along the height, along the width


@dataclass
class Row:
    """One call of one layer. field: (along the height, along the width); None if it is unknown."""

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    bytes: int
    field: Fields | None


@dataclass
class Summary:
    """rows: the calls in order. parameters: of the whole model, each counted once. `print` it for the table."""

    rows: list[Row]
    parameters: int
    trainable: int

    @property
    def multiply_adds(self) -> int:
        """Products of a weight and a value, in all layers."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def bytes(self) -> int:
        """Memory of all outputs. Training keeps them until the backward pass has used them."""
        return sum(row.bytes for row in self.rows)

    def __str__(self) -> str:
        heads = ("layer", "type", "output", "parameters", "multiply-adds", "memory", "field", "jump")
        lines = [
            (
                row.name,
                row.type,
                "x".join(str(n) for n in row.shape),
                f"{row.parameters:,}",
                f"{row.multiply_adds:,}",
                _in_units(row.bytes),
                _in_pixels(row.field and [axis.size for axis in row.field]),
                _in_pixels(row.field and [axis.jump for axis in row.field]),
            )
            for row in self.rows
        ]
        elsewhere = self.parameters - sum(row.parameters for row in self.rows)
        if elsewhere:
            lines.append(("(not in these layers)", "", "", f"{elsewhere:,}", "", "", "", ""))
        total = f"{self.multiply_adds:,}"
        lines.append(("total", "", "", f"{self.parameters:,}", total, _in_units(self.bytes), "", ""))
        widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
        table = [
            "  ".join(f"{cell:<{w}}" if i < 3 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(line, widths)))
            for line in (heads, *lines)
        ]
        rule = "-" * len(table[0])
        frozen = self.parameters - self.trainable
        ending = [f"{frozen:,} of {self.parameters:,} parameters are frozen"] if frozen else []
        return "\n".join(line.rstrip() for line in [table[0], rule, *table[1:-1], rule, table[-1], *ending])


def summary(model: Module, x: Any) -> Summary:
    """Run a model once, in evaluation mode, and describe every call of a layer.

    x: an input (Tensor or array), or its shape, e.g. (1, 256, 256, 3), for an input of zeros. Shapes,
    multiply-adds and memory are for all images of x together.

    Limits: operations that are not layers, such as `x + y` or a call of `tinynet.conv2d`, are not listed and count as
    reading one pixel, and so does a layer of your own. Values without height and width count as seeing the whole image.
    The field holds all pixels that can matter; often only a few of them do. Raises what the model raises for a wrong x.
    """
    parameters = model.parameters()
    if isinstance(x, (tuple, list)):
        x = np.zeros(x, dtype=parameters[0].dtype if parameters else np.float32)
    # If x is not row numbers, it requires a gradient, so that the graph leads from every output back to it.
    x = x.data if isinstance(x, Tensor) else x
    x = Tensor(x, requires_grad=x.dtype.kind == "f")

    names = {id(module): name for name, module in model.named_modules()}
    fields = _Follower(x)
    rows: list[Row] = []
    counted: set[int] = set()

    def note(module: Module, inputs: tuple, output: Any) -> None:
        if any(True for _ in module.named_children()):
            return
        y = output[0] if isinstance(output, tuple) else output
        own = [p for p in module.parameters() if id(p) not in counted]
        counted.update(id(p) for p in own)
        rows.append(
            Row(
                name=names.get(id(module), "?") or "model",
                type=type(module).__name__,
                shape=y.shape,
                parameters=sum(p.size for p in own),
                multiply_adds=_multiply_adds(module, inputs[0], y),
                bytes=y.data.nbytes,
                field=fields.follow(module, inputs, y),
            )
        )

    with _evaluation_mode(model), observe(note):
        model(x)
    trainable = sum(p.size for p in parameters if p.requires_grad)
    return Summary(rows, sum(p.size for p in parameters), trainable)


@contextlib.contextmanager
def _evaluation_mode(model: Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode; afterwards each module has its mode of before."""
    modes = [(module, module.training) for _, module in model.named_modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _multiply_adds(module: Module, x: Tensor, y: Tensor) -> int:
    """Products of a weight and a value in the layer's definition, padding included."""
    if isinstance(module, Conv2d):
        return y.size * math.prod(module.weight.shape[:3])  # for each output: KH KW C_in / groups
    if isinstance(module, ConvTranspose2d):
        return x.size * math.prod(module.weight.shape[:3])  # for each input: KH KW C_out / groups
    if isinstance(module, Linear):
        return y.size * module.in_features
    return 0


class _Follower:
    """Remembers the receptive field of each layer's output."""

    def __init__(self, x: Tensor) -> None:
        # By the id of the node in the graph. The node is kept too, so that Python cannot reuse its id.
        self.known: dict[int, tuple[Node, Fields | None]] = {id(x.node): (x.node, (_PIXEL, _PIXEL))}

    def follow(self, module: Module, inputs: tuple, y: Tensor) -> Fields | None:
        """The fields of a layer's output y. They are remembered for the layers that use y."""
        # A convolution takes several tensors, whose channels follow each other, as one list or tuple.
        tensors = [t for entry in inputs for t in (entry if isinstance(entry, (list, tuple)) else [entry])]
        fields = _joined([self.find(t) for t in tensors if isinstance(t, Tensor) and t.dtype.kind == "f"])
        if fields is not None:
            fields = _after(module, fields, y)
        self.known[id(y.node)] = (y.node, fields)
        return fields

    def find(self, tensor: Tensor) -> Fields | None:
        """The joined fields of the known tensors that this tensor was computed from; None if there is none."""
        found, seen, stack = [], set(), [tensor.node]
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if id(node) in self.known:
                found.append(self.known[id(node)][1])
            elif isinstance(node, Function) and node.inputs is not None:
                stack.extend(parent for parent in node.inputs if parent is not None)
        return _joined(found)


def _joined(branches: list[Fields | None]) -> Fields | None:
    """The fields of all branches together; None if a branch is unknown, or if there is no branch."""
    if not branches or None in branches:
        return None
    height, width = (functools.reduce(_join, axis) for axis in zip(*branches))
    return None if height is None or width is None else (height, width)


def _join(a: Field | None, b: Field) -> Field | None:
    return None if a is None else a.joined(b)


def _after(module: Module, fields: Fields, y: Tensor) -> Fields:
    """The fields after one layer."""
    height, width = fields
    if y.ndim < 4:
        return _ALL, _ALL
    if isinstance(module, (Conv2d, ConvTranspose2d, Pooling)):
        dilation = (1, 1) if isinstance(module, Pooling) else module.dilation
        along_y, along_x = zip(module.kernel_size, module.stride, module.padding, dilation)
        if isinstance(module, ConvTranspose2d):
            return height.transposed_window(*along_y), width.transposed_window(*along_x)
        return height.window(*along_y), width.window(*along_x)
    if isinstance(module, MaxUnpool2d):  # each value goes to one place in its window, so all places see it
        sy, sx = module.stride
        return height.transposed_window(sy, sy, 0, 1), width.transposed_window(sx, sx, 0, 1)
    return fields


def _in_units(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _in_pixels(pair: list[float] | None) -> str:
    if pair is None:
        return "?"
    height, width = ("all" if math.isinf(n) else f"{n:g}" for n in pair)
    return height if height == width else f"{height}x{width}"
