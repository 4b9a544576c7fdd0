"""Recurrent layers: a state that is carried from step to step of a sequence.

Sequences are (N, T, F): samples, time steps, features. If they differ in length, pad the shorter ones at the end and
pass their `lengths`. A sample keeps its state from its last real step on, so the padding has no influence.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.devices import to_device
from ..engine.basic_ops import swapaxes, where
from ..engine.tensor import Tensor
from ..ops._shared.targets import constant
from ..ops.activations.entries import tanh
from ..ops.concat.op import stack
from ..ops.lstm.op import lstm
from ..ops.matmul.op import matmul
from .init import glorot_uniform, orthogonal
from .module import Module, Parameter


class RNN(Module):
    """The plain recurrent net: h_t = tanh(x_t W + h_(t-1) U + b). The outputs are h_1 .. h_T.

    x: (N, T, in_features). Returns (outputs (N, T, hidden), last state (N, hidden) of the last layer).
    layers: each layer takes the outputs of the layer below. input_weight: (in, hidden), Glorot; recurrent_weight:
    (hidden, hidden), orthogonal, so that at first it neither enlarges nor reduces the state; bias: zeros.
    It is written step by step with the operations of tinynet; `LSTM` is one operation for all steps.
    Elman, Finding Structure in Time, Cognitive Science 1990.
    """

    def __init__(self, in_features: int, hidden: int, layers: int = 1) -> None:
        _check_sizes("RNN", in_features, hidden, layers)
        self.in_features, self.hidden = in_features, hidden
        self.cells = [_Weights(in_features if i == 0 else hidden, hidden, gates=1) for i in range(layers)]

    def forward(self, x: Tensor, lengths: Any = None) -> tuple[Tensor, Tensor]:
        _check_input("RNN", x, self.in_features)
        lengths, shortest = _checked_lengths("RNN", lengths, x)
        steps = [x[:, t] for t in range(x.shape[1])]
        for cell in self.cells:
            h = _zeros(x, self.hidden)
            outputs = []
            for t, step in enumerate(steps):
                new = tanh(cell.from_input(step) + matmul(h, cell.recurrent_weight))
                h = new if t < shortest else where((t < lengths)[:, None], new, h)
                outputs.append(h)
            steps = outputs
        return stack(steps, axis=1), h


class LSTM(Module):
    """Long short-term memory: a cell state, and gates that decide what the cell keeps, adds and outputs.

    x: (N, T, in_features). Returns (outputs (N, T, hidden), (h, c)), the last state of the last layer, (N, hidden)
    each. layers: each layer takes the outputs of the layer below.
    input_weight: (in, 4 hidden), Glorot; recurrent_weight: (hidden, 4 hidden), orthogonal; in the order input gate,
    forget gate, candidate, output gate. bias: (4 hidden,), zeros, but 1 for the forget gate, so that at first
    most of the cell is kept (Jozefowicz et al., An Empirical Exploration of Recurrent Network Architectures, 2015).
    ops/lstm/derivation.md has the formulas. Hochreiter and Schmidhuber, Long Short-Term Memory, 1997.
    """

    def __init__(self, in_features: int, hidden: int, layers: int = 1) -> None:
        _check_sizes("LSTM", in_features, hidden, layers)
        self.in_features, self.hidden = in_features, hidden
        self.cells = [_Weights(in_features if i == 0 else hidden, hidden, gates=4) for i in range(layers)]
        for cell in self.cells:
            cell.bias.data[hidden : 2 * hidden] = 1

    def forward(self, x: Tensor, lengths: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        _check_input("LSTM", x, self.in_features)
        lengths, _ = _checked_lengths("LSTM", lengths, x)
        h = swapaxes(x, 0, 1)  # the op has time first
        zeros = _zeros(x, self.hidden)
        for cell in self.cells:
            states = lstm(cell.from_input(h), cell.recurrent_weight, zeros, zeros, lengths)
            h = states[:, 0]
        return swapaxes(h, 0, 1), (states[-1, 0], states[-1, 1])


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
        return matmul(x, self.input_weight) + self.bias


def _zeros(x: Tensor, hidden: int) -> Tensor:
    """The first state: zeros (N, hidden) of the dtype and on the device of x."""
    return Tensor(np.zeros((len(x), hidden), x.dtype)).to(x.device)


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
            f"{layer}: lengths is {lengths.dtype} of shape {tuple(lengths.shape)}; integers ({len(x)},) are needed"
        )
    shortest, longest = int(lengths.min(initial=steps)), int(lengths.max(initial=0))
    if shortest < 0 or longest > steps:
        raise ValueError(f"{layer}: lengths go from {shortest} to {longest}; x has {steps} steps")
    return to_device(lengths, x.device), shortest
