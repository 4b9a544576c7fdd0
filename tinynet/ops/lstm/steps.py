"""The loop over time, the same on CPU and GPU; what one step does element by element, each tier has for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def forward(
    a: Any, weight: Any, h0: Any, c0: Any, states: Any, gates: Any, product: Callable, step: Callable
) -> tuple[Any, Any]:
    """Fill states (T, 2, N, H) and gates (T, N, 4 H), contiguous, and return them.

    product: the matmul kernel. step(t, a_t, c_before, h_before, gates_t, h, c): gates_t holds h_before U, and becomes
    the gates; h and c become the new state.
    """
    h, c = h0, c0
    for t in range(len(a)):
        product(h, weight, out=gates[t])
        step(t, a[t], c, h, gates[t], states[t, 0], states[t, 1])
        h, c = states[t, 0], states[t, 1]
    return states, gates


def backward(
    gstates: Any,
    states: Any,
    gates: Any,
    weight: Any,
    h0: Any,
    c0: Any,
    ga: Any,
    gh: Any,
    gc: Any,
    product: Callable,
    step: Callable,
) -> tuple[Any, Any, Any, Any]:
    """(ga, gweight, gh0, gc0). ga (T, N, 4 H) is filled; gh, gc (N, H) are zeros, and in the end the last two.

    product: the matmul kernel. step(t, gstates_h, gstates_c, c_before, c, gates_t, gh, gc, ga_t): ga_t becomes the
    gradient of z; gh and gc become those of the step before, but for what comes by way of z.
    """
    for t in reversed(range(len(gates))):
        c_before = states[t - 1, 1] if t else c0
        step(t, gstates[t, 0], gstates[t, 1], c_before, states[t, 1], gates[t], gh, gc, ga[t])
        gh += product(ga[t], weight, transpose_y=True)
    hidden = len(weight)
    gweight = product(h0, ga[0], transpose_x=True)  # the first step had its h from outside, the others from states
    h_before, later = states[:-1, 0].reshape(-1, hidden), ga[1:].reshape(-1, 4 * hidden)
    gweight += product(h_before, later, transpose_x=True)
    return ga, gweight, gh, gc
