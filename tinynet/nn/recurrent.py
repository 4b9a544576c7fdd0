"""Recurrent layers: a state that is carried from step to step of a sequence.

Sequences are (N, T, F): samples, time steps, features. If they differ in length, pad the shorter ones at the end and
pass their `lengths`. A sample keeps its state from its last real step on, so the padding has no influence, not even if
it is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.arrays import array_module
from ..backends.devices import to_device
from ..engine.basic_ops import reshape, swapaxes, where
from ..engine.tensor import Tensor
from ..ops._shared.targets import constant
from ..ops.activations.entries import sigmoid, tanh
from ..ops.concat.op import concat, stack
from ..ops.lstm.op import lstm
from ..ops.matmul.op import linear, matmul
from .init import glorot_uniform, orthogonal
from .module import Module, Parameter


class Recurrent(Module):
    """What RNN, GRU and LSTM share.

    forward(x, lengths=None, state=None): x (N, T, in_features); lengths: None, or integers (N,). Returns (outputs
    (N, T, hidden), state), the state being the last one of the last layer: h (N, hidden), for an LSTM (h, c).
    state: the state to start from, by default zeros: h, or (h, c), each (N, hidden), or (layers, N, hidden) for several
    layers.
    layers: each layer takes the outputs of the layer below. bidirectional: a second net of the same kind reads each
    sequence from its end; outputs and states of both are concatenated, (..., 2 hidden), and the state to start from is
    (2 layers, N, hidden): the two directions of the first layer, of the second, ...
    """

    gates: int  # a cell computes gates * hidden numbers from each step
    arrays = 1  # that make up a state

    def __init__(self, in_features: int, hidden: int, layers: int = 1, bidirectional: bool = False) -> None:
        _check_sizes(type(self).__name__, in_features, hidden, layers)
        self.in_features, self.hidden = in_features, hidden
        widths = [in_features] + [2 * hidden if bidirectional else hidden] * (layers - 1)
        self.cells = [self._cell(width) for width in widths]
        self.reverse_cells = [self._cell(width) for width in widths] if bidirectional else []

    def _cell(self, in_features: int) -> Any:
        return _Weights(in_features, self.hidden, self.gates)

    def _run(self, cell: Any, steps: Any, start: tuple, lengths: Any, shortest: int) -> tuple[Any, tuple]:
        """(outputs, last state) of one layer in one direction. steps, outputs: (T, N, F), or a list of T tensors."""
        (h,), outputs = start, []
        for t in range(len(steps)):
            new = self._step(cell, steps[t], h)
            h = new if t < shortest else where((t < lengths)[:, None], new, h)
            outputs.append(h)
        return outputs, (h,)

    def _step(self, cell: Any, x: Tensor, h: Tensor) -> Tensor:
        """The state after a step."""
        raise NotImplementedError

    def forward(self, x: Tensor, lengths: Any = None, state: Any = None) -> tuple[Tensor, Any]:
        name = type(self).__name__
        _check_input(name, x, self.in_features)
        lengths, shortest = _checked_lengths(name, lengths, x)
        directions = [self.cells, self.reverse_cells] if self.reverse_cells else [self.cells]
        starts = iter(self._starts(x, state, len(self.cells) * len(directions)))
        steps: Any = swapaxes(x, 0, 1)  # time first
        if shortest < len(steps):  # a padding of NaN would reach the gradients: 0 * NaN is NaN
            steps = where((_times(lengths, len(steps)) < lengths)[..., None], steps, 0.0)
        for cells in zip(*directions):
            results = []
            for backwards, cell in enumerate(cells):
                inputs = _reversed(steps, lengths) if backwards else steps
                outputs, last = self._run(cell, inputs, next(starts), lengths, shortest)
                results.append((_reversed(outputs, lengths) if backwards else outputs, *last))
            steps, *last_state = map(_joined, zip(*results))
        return swapaxes(_whole(steps), 0, 1), last_state[0] if self.arrays == 1 else tuple(last_state)

    def _starts(self, x: Tensor, state: Any, count: int) -> list[tuple]:
        """The state to start from, for each layer and direction."""
        if state is None:
            zeros = Tensor(np.zeros((len(x), self.hidden), x.dtype)).to(x.device)
            return [(zeros,) * self.arrays] * count
        parts = [state] if self.arrays == 1 else state
        shape = (count, len(x), self.hidden)
        allowed = [shape, shape[1:]] if count == 1 else [shape]
        shapes = [tuple(getattr(part, "shape", ())) for part in parts] if isinstance(parts, (list, tuple)) else []
        if len(shapes) != self.arrays or any(s not in allowed for s in shapes):
            needed = f"h of shape {allowed[-1]}" if self.arrays == 1 else f"(h, c), each of shape {allowed[-1]},"
            raise ValueError(f"{type(self).__name__}: state has the shapes {shapes}; {needed} is needed")
        return list(zip(*(reshape(part, shape) for part in parts)))


class RNN(Recurrent):
    """The plain recurrent net: h_t = tanh(x_t W + h_(t-1) U + b). The outputs are h_1 .. h_T.

    Arguments and results: see `Recurrent`. input_weight: (in, hidden), Glorot; recurrent_weight: (hidden, hidden),
    orthogonal, so that at first it neither enlarges nor reduces the state; bias: zeros.
    It is written step by step with the operations of tinynet; `LSTM` is one operation for all steps.
    Elman, Finding Structure in Time, Cognitive Science 1990.
    """

    gates = 1

    def _step(self, cell: Any, x: Tensor, h: Tensor) -> Tensor:
        return tanh(cell.from_input(x) + matmul(h, cell.recurrent_weight))


class GRU(Recurrent):
    """Gated recurrent unit: h_t = (1 - z) n + z h_(t-1), where the gate z decides what the state keeps.

        r = sigmoid(x W_r + h U_r + b_r),   z = sigmoid(x W_z + h U_z + b_z),   n = tanh(x W_n + b_n + r (h U_n + c))

    Arguments and results: see `Recurrent`. input_weight: (in, 3 hidden), Glorot; recurrent_weight: (hidden, 3 hidden),
    orthogonal, in the order r, z, n; bias: (3 hidden,) and recurrent_bias, c, (hidden,): zeros.
    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014, in the form of PyTorch and Keras.
    """

    gates = 3

    def _cell(self, in_features: int) -> Any:
        cell = super()._cell(in_features)
        cell.recurrent_bias = Parameter(np.zeros(self.hidden, dtype=np.float32))
        return cell

    def _step(self, cell: Any, x: Tensor, h: Tensor) -> Tensor:
        a, u, n = cell.from_input(x), matmul(h, cell.recurrent_weight), 2 * self.hidden
        gates = sigmoid(a[:, :n] + u[:, :n])
        r, z = gates[:, : self.hidden], gates[:, self.hidden :]
        new = tanh(a[:, n:] + r * (u[:, n:] + cell.recurrent_bias))
        return new + z * (h - new)


class LSTM(Recurrent):
    """Long short-term memory: a cell state, and gates that decide what the cell keeps, adds and outputs.

    Arguments and results: see `Recurrent`. The state is (h, c).
    input_weight: (in, 4 hidden), Glorot; recurrent_weight: (hidden, 4 hidden), orthogonal; in the order input gate,
    forget gate, candidate, output gate. bias: (4 hidden,), zeros, but 1 for the forget gate, so that at first
    most of the cell is kept (Jozefowicz et al., An Empirical Exploration of Recurrent Network Architectures, 2015).
    ops/lstm/derivation.md has the formulas. Hochreiter and Schmidhuber, Long Short-Term Memory, 1997.
    """

    gates, arrays = 4, 2

    def _cell(self, in_features: int) -> Any:
        cell = super()._cell(in_features)
        cell.bias.data[self.hidden : 2 * self.hidden] = 1
        return cell

    def _run(self, cell: Any, steps: Any, start: tuple, lengths: Any, shortest: int) -> tuple[Any, tuple]:
        h, c = start
        states = lstm(cell.from_input(steps), cell.recurrent_weight, h, c, lengths)
        return states[0], (states[0, -1], states[1, -1])


class _Weights(Module):
    """The weights of one layer, for `gates` times `hidden` numbers from each step."""

    def __init__(self, in_features: int, hidden: int, gates: int) -> None:
        # Each gate is a map of its own from x and from h, and is drawn as one.
        inputs = [glorot_uniform((in_features, hidden)) for _ in range(gates)]
        recurrent = [orthogonal((hidden, hidden)) for _ in range(gates)]
        self.input_weight = Parameter(np.concatenate(inputs, axis=1))
        self.recurrent_weight = Parameter(np.concatenate(recurrent, axis=1))
        self.bias = Parameter(np.zeros(gates * hidden, dtype=np.float32))

    def from_input(self, x: Tensor) -> Tensor:
        """x W + b."""
        return linear(x, self.input_weight, self.bias)


def _whole(steps: Any) -> Tensor:
    """The steps as one tensor (T, N, F)."""
    return stack(steps) if isinstance(steps, list) else steps


def _joined(parts: Any) -> Any:
    """The results of one direction, or those of both, concatenated."""
    return parts[0] if len(parts) == 1 else concat([_whole(part) for part in parts], axis=-1)


def _times(lengths: Any, steps: int) -> Any:
    """0 .. T - 1, (T, 1), on the device of the lengths."""
    return array_module(lengths).arange(steps)[:, None]


def _reversed(steps: Any, lengths: Any) -> Any:
    """The steps of each sample in reverse; its padding stays at the end."""
    if lengths is None:
        return steps[::-1]
    xp, t = array_module(lengths), _times(lengths, len(steps))
    return _whole(steps)[xp.where(t < lengths, lengths - 1 - t, t), xp.arange(len(lengths))]


def _check_sizes(layer: str, in_features: int, hidden: int, layers: int) -> None:
    if min(in_features, hidden, layers) < 1:
        raise ValueError(
            f"{layer}: {in_features} features in, {hidden} hidden units, {layers} layers; each must be at least 1"
        )


def _check_input(layer: str, x: Tensor, in_features: int) -> None:
    if x.ndim != 3 or x.shape[2] != in_features or x.shape[1] == 0:
        raise ValueError(
            f"{layer}: x has shape {tuple(x.shape)}; (N, T, {in_features}) with at least one step T is needed"
        )


def _checked_lengths(layer: str, lengths: Any, x: Tensor) -> tuple[Any, int]:
    """(the lengths as an array on the device of x, the shortest length); without lengths (None, T)."""
    steps = x.shape[1]
    if lengths is None:
        return None, steps
    lengths = constant(layer, "lengths", np.asarray(lengths) if isinstance(lengths, (list, tuple)) else lengths)
    lengths = to_device(lengths, "cpu")
    if lengths.dtype.kind not in "iu" or lengths.shape != (len(x),):
        raise ValueError(
            f"{layer}: lengths is {lengths.dtype} of shape {tuple(lengths.shape)}; integers ({len(x)},) are needed; "
            "a state to start from is passed as state=..."
        )
    shortest, longest = int(lengths.min(initial=steps)), int(lengths.max(initial=0))
    if shortest < 0 or longest > steps:
        raise ValueError(f"{layer}: lengths go from {shortest} to {longest}; x has {steps} steps")
    return to_device(lengths.astype(np.int64), x.device), shortest
