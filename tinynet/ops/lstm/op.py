"""lstm on Tensors."""

from __future__ import annotations

from typing import Any

from ...backends.arrays import array_module, device_of
from ...engine.basic_ops import swapaxes, where
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float, check_ndim
from .._shared.targets import beside, constant
from ..activations.entries import sigmoid, tanh
from ..concat.op import concat, stack
from ..matmul.op import matmul
from .reference import backward, forward


def lstm(a: Tensor, weight: Tensor, h: Tensor, c: Tensor, lengths: Any = None) -> Tensor:
    """A long short-term memory over all steps of a sequence, from what its inputs give to the gates.

    a: (T, N, 4 H), float, time first, T >= 1: x_t W + b for each of T steps and N samples, in the order input gate,
    forget gate, candidate, output gate. weight: (H, 4 H), the recurrent one. h, c: (N, H), the state to start from.
    lengths: None, or the length of each sample, integers (N,): from there on it keeps its state. Constants.
    Returns the states, (2, T, N, H): [0] all h, which are the outputs, [1] all c, and [:, -1] the last of both.

    `nn.LSTM` is the layer with its weights. Raises TypeError or ValueError, naming the argument, for what does not fit.
    Source: Hochreiter and Schmidhuber, Long Short-Term Memory, 1997, with the forget gate of Gers et al., 2000.
    """
    check_float("lstm", a=a, weight=weight, h=h, c=c)
    check_ndim("lstm", "a", a, 3, "(T, N, 4 H)")
    steps, samples, width = a.shape
    if steps == 0 or width == 0 or width % 4:
        raise ValueError(f"lstm: a has shape {tuple(a.shape)}; (T, N, 4 H) with at least one step and unit is needed")
    hidden = width // 4
    for name, array, shape in (("weight", weight, (hidden, width)), ("h", h, (samples, hidden)), ("c", c, h.shape)):
        if tuple(array.shape) != tuple(shape):
            raise ValueError(f"lstm: {name} has shape {tuple(array.shape)}; a {tuple(a.shape)} needs {tuple(shape)}")
    if lengths is not None:
        lengths = constant("lstm", "lengths", lengths)
        _check_lengths(lengths, steps, samples)
        lengths = beside("lstm", "lengths", lengths, a)
    return LSTM.apply(a, weight, h, c, lengths)


def _check_lengths(lengths: Any, steps: int, samples: int) -> None:
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lstm: lengths is {lengths.dtype}; integers are needed")
    if lengths.shape != (samples,):
        raise ValueError(f"lstm: lengths has shape {tuple(lengths.shape)}; one for each of {samples} samples is needed")
    if device_of(lengths) == "cpu" and lengths.size and not 0 <= lengths.min() <= lengths.max() <= steps:
        raise ValueError(f"lstm: lengths go from {lengths.min()} to {lengths.max()}; there are {steps} steps")


class LSTM(Function):
    def forward(self, a, weight, h, c, lengths):
        states, self.gates = forward(a, weight, h, c, lengths)
        self.save(a, weight, h, c, lengths, states)
        return states

    def backward(self, gstates):
        _, weight, h, c, lengths, states = self.saved
        return *backward(gstates, states, self.gates, weight, h, c, lengths), None

    def backward_graph(self, gstates):
        a, weight, h, c, lengths, _ = self.saved
        return *_gradients(gstates, a, weight, h, c, lengths), None


def _gradients(gstates: Any, a: Any, weight: Any, h: Any, c: Any, lengths: Any) -> tuple[Any, Any, Any, Any]:
    """(ga, gweight, gh, gc) in basic ops: derivation.md, line by line."""
    hidden = len(weight)
    if lengths is not None:  # a padding of NaN would reach the derivatives: 0 * NaN is NaN
        a = where((array_module(lengths).arange(len(a))[:, None] < lengths)[..., None], a, 0.0)
    steps = []
    for t in range(len(a)):
        z_i, z_f, z_g, z_o = (
            a[t, :, k : k + hidden] + matmul(h, weight[:, k : k + hidden]) for k in range(0, 4 * hidden, hidden)
        )
        i, f, g, o = sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o)
        c_new = f * c + i * g
        q = tanh(c_new)
        steps.append((h, c, i, f, g, o, q))
        h, c = _kept(t, lengths, o * q, h), _kept(t, lengths, c_new, c)

    gh, gc, gweight, ga = 0.0, 0.0, 0.0, []
    for t, (h_before, c_before, i, f, g, o, q) in reversed(list(enumerate(steps))):
        gh, gc = gh + gstates[0, t], gc + gstates[1, t]
        gc_all = gc + gh * o * (1 - q * q)
        gz_i, gz_f = gc_all * g * i * (1 - i), gc_all * c_before * f * (1 - f)
        gz_g, gz_o = gc_all * i * (1 - g * g), gh * q * o * (1 - o)
        gz = _kept(t, lengths, concat([gz_i, gz_f, gz_g, gz_o], axis=1), 0.0)
        ga.append(gz)
        gweight = gweight + matmul(swapaxes(h_before, 0, 1), gz)
        gh = _kept(t, lengths, matmul(gz, swapaxes(weight, 0, 1)), gh)
        gc = _kept(t, lengths, gc_all * f, gc)
    return stack(ga[::-1]), gweight, gh, gc


def _kept(t: int, lengths: Any, new: Any, old: Any) -> Any:
    """new for the samples that have a step t, old for the others."""
    return new if lengths is None else where((t < lengths)[:, None], new, old)
