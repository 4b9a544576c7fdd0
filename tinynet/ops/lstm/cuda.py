"""lstm on a GPU: two launches for each step, matmul's product and a thread for each unit of each sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.arrays import array_module
from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch
from ..matmul.cuda import forward as product
from .weight import gradient_of_weight

SOURCE = Source(Path(__file__).with_name("lstm.cu"))
THREADS = 128


def forward(a: Any, weight: Any, h0: Any, c0: Any, lengths: Any = None) -> tuple[Any, Any]:
    """(states, gates): states (2, T, N, H), all h and all c; gates (T, N, 4 H), its i, f, g, o."""
    a, weight, h0, c0 = map(contiguous, (a, weight, h0, c0))
    states, gates = empty((2, len(a), *h0.shape), a.dtype, like=a), empty(a.shape, a.dtype, like=a)
    step = _step("lstm_forward", h0, lengths)
    h, c = h0, c0
    for t in range(len(a)):
        step(t, a[t], product(h, weight), c, h, gates[t], states[0, t], states[1, t])
        h, c = states[0, t], states[1, t]
    return states, gates


def backward(
    gstates: Any, states: Any, gates: Any, weight: Any, h0: Any, c0: Any, lengths: Any = None
) -> tuple[Any, Any, Any, Any]:
    """(ga, gweight, gh0, gc0) from the gradient of the states, (2, T, N, H)."""
    gstates, states, gates, weight, h0, c0 = map(contiguous, (gstates, states, gates, weight, h0, c0))
    ga, zeros = empty(gates.shape, gates.dtype, like=gates), array_module(gates).zeros
    gh, gc = zeros(h0.shape, h0.dtype), zeros(c0.shape, c0.dtype)
    step = _step("lstm_backward", h0, lengths)
    for t in reversed(range(len(gates))):
        c_before = states[1, t - 1] if t else c0
        # gh and gc become those of the step before, but for what comes by way of z.
        step(t, gstates[0, t], gstates[1, t], c_before, states[1, t], gates[t], gh, gc, ga[t])
        gh += product(ga[t], weight, transpose_y=True)
    return ga, gradient_of_weight(product, h0, states, ga), gh, gc


def _step(kernel: str, h: Any, lengths: Any) -> Any:
    """step(t, *arrays): one launch."""
    ends = None if lengths is None else contiguous(lengths.astype("int64", copy=False))
    grid, (_, hidden) = blocks(h.size, THREADS), h.shape

    def step(t: int, *arrays: Any) -> None:
        launch(SOURCE, kernel, grid, THREADS, *arrays, ends, t, h.size, hidden)

    return step
