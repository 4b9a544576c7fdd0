"""lstm by its definition. The other tiers must agree. Letters as in derivation.md.

a (T, N, 4 H): what each step gets from its input, for the gates i, f, g, o. weight (H, 4 H): U. h0, c0 (N, H).
lengths (N,), integers, or None: from its length on, a sample keeps its state.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel


@kernel
def forward(
    a: np.ndarray, weight: np.ndarray, h0: np.ndarray, c0: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(states, gates): states (2, T, N, H), all h and all c; gates (T, N, 4 H), its i, f, g, o."""
    steps, samples, hidden = len(a), *h0.shape
    states, gates = np.empty((2, steps, samples, hidden), a.dtype), np.empty_like(a)
    h, c = h0, c0
    for t in range(steps):
        z_i, z_f, z_g, z_o = np.split(a[t] + h @ weight, 4, axis=-1)
        i, f, g, o = _sigmoid(z_i), _sigmoid(z_f), np.tanh(z_g), _sigmoid(z_o)
        c_new = f * c + i * g
        h_new = o * np.tanh(c_new)
        goes_on = _goes_on(t, lengths)
        h, c = np.where(goes_on, h_new, h), np.where(goes_on, c_new, c)
        states[0, t], states[1, t] = h, c
        gates[t] = np.concatenate([i, f, g, o], axis=-1)
    return states, gates


@kernel
def backward(
    gstates: np.ndarray,
    states: np.ndarray,
    gates: np.ndarray,
    weight: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    lengths: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(ga, gweight, gh0, gc0) from the gradient of the states, (2, T, N, H)."""
    ga, gweight = np.zeros_like(gates), np.zeros_like(weight)
    gh, gc = np.zeros_like(h0), np.zeros_like(c0)
    for t in reversed(range(len(gates))):
        h_before, c_before = states[:, t - 1] if t else (h0, c0)
        i, f, g, o = np.split(gates[t], 4, axis=-1)
        gh, gc = gh + gstates[0, t], gc + gstates[1, t]
        q = np.tanh(states[1, t])
        gc_all = gc + gh * o * (1 - q * q)
        gz = np.concatenate(
            [
                gc_all * g * i * (1 - i),
                gc_all * c_before * f * (1 - f),
                gc_all * i * (1 - g * g),
                gh * q * o * (1 - o),
            ],
            axis=-1,
        )
        goes_on = _goes_on(t, lengths)
        ga[t] = np.where(goes_on, gz, 0)
        gweight += h_before.T @ ga[t]
        gh, gc = np.where(goes_on, gz @ weight.T, gh), np.where(goes_on, gc_all * f, gc)
    return ga, gweight, gh, gc


def _goes_on(t: int, lengths: np.ndarray | None) -> np.ndarray:
    """Which samples have a step t, (N, 1)."""
    return np.array([[True]]) if lengths is None else (t < lengths)[:, None]


def _sigmoid(z: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(z))  # never of a positive number, so it cannot overflow
    return np.where(z < 0, e, 1) / (1 + e)
