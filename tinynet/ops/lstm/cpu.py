"""lstm on the CPU: BLAS for the product of each step, Numba for what is element-wise.

The element-wise part of a step is too little work to be worth waking other threads for: it runs in one.
"""

from __future__ import annotations

import numpy as np

from ... import memory
from ..fastmath import ELEMENTWISE, exp_of_nonpositive, expm1_of_nonpositive
from ..jit import jit
from ..matmul.cpu import forward as product
from . import steps


def forward(
    a: np.ndarray, weight: np.ndarray, h0: np.ndarray, c0: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(states, gates): states (T, 2, N, H), h and c of each step; gates (T, N, 4 H), its i, f, g, o."""
    a, weight, h0, c0 = map(np.ascontiguousarray, (a, weight, h0, c0))
    ends = _ends(lengths, a)
    states, gates = memory.empty((len(a), 2, *h0.shape), a.dtype), memory.empty(a.shape, a.dtype)

    def step(t: int, *arrays: np.ndarray) -> None:
        _forward(t < ends, *arrays)

    return steps.forward(a, weight, h0, c0, states, gates, product, step)


def backward(
    gstates: np.ndarray,
    states: np.ndarray,
    gates: np.ndarray,
    weight: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    lengths: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(ga, gweight, gh0, gc0) from the gradient of the states, (T, 2, N, H)."""
    arrays = tuple(map(np.ascontiguousarray, (gstates, states, gates, weight, h0, c0)))
    ends = _ends(lengths, gates)
    ga = memory.empty(gates.shape, gates.dtype)
    gh, gc = np.zeros(h0.shape, h0.dtype), np.zeros(c0.shape, c0.dtype)

    def step(t: int, *arrays: np.ndarray) -> None:
        _backward(t < ends, *arrays)

    return steps.backward(*arrays, ga, gh, gc, product, step)


def _ends(lengths: np.ndarray | None, a: np.ndarray) -> np.ndarray:
    """The length of each sample."""
    return np.full(a.shape[1], len(a)) if lengths is None else np.ascontiguousarray(lengths)


@jit(fastmath=ELEMENTWISE)
def _sigmoid(values):
    """In place: 1 / (1 + exp(-v)), without ever taking the exp of a positive number."""
    one = values.dtype.type(1)
    for j in range(values.size):
        e = exp_of_nonpositive(-abs(values[j]))
        values[j] = (e if values[j] < 0 else one) / (one + e)


@jit(fastmath=ELEMENTWISE)
def _tanh(values, result):
    """tanh/derivation.md says why in this way."""
    two = values.dtype.type(2)
    for j in range(values.size):
        t = expm1_of_nonpositive(-two * abs(values[j]))
        size = -t / (two + t)
        result[j] = -size if values[j] < 0 else size


@jit(fastmath=ELEMENTWISE)
def _forward(goes_on, a, c_before, h_before, gates, h, c):
    hidden = h.shape[1]
    for n in range(len(h)):
        z, given = gates[n], a[n]
        for j in range(4 * hidden):
            z[j] += given[j]
        i, f, g, o = z[:hidden], z[hidden : 2 * hidden], z[2 * hidden : 3 * hidden], z[3 * hidden :]
        _sigmoid(z[: 2 * hidden])
        _tanh(g, g)
        _sigmoid(o)
        if goes_on[n]:
            c_new, h_new, c_old = c[n], h[n], c_before[n]
            for j in range(hidden):
                c_new[j] = f[j] * c_old[j] + i[j] * g[j]
            _tanh(c_new, h_new)
            for j in range(hidden):
                h_new[j] *= o[j]
        else:
            c[n, :] = c_before[n]
            h[n, :] = h_before[n]


@jit(fastmath=ELEMENTWISE)
def _backward(goes_on, gstates_h, gstates_c, c_before, c, gates, gh, gc, ga):
    hidden = gh.shape[1]
    one = gh.dtype.type(1)
    q = np.empty(hidden, gh.dtype)
    for n in range(len(gh)):
        from_h, from_c, from_outside_h, from_outside_c = gh[n], gc[n], gstates_h[n], gstates_c[n]
        for j in range(hidden):
            from_h[j] += from_outside_h[j]
            from_c[j] += from_outside_c[j]
        z, gz = gates[n], ga[n]
        if not goes_on[n]:
            gz[:] = 0
            continue
        i, f, g, o = z[:hidden], z[hidden : 2 * hidden], z[2 * hidden : 3 * hidden], z[3 * hidden :]
        gz_i, gz_f = gz[:hidden], gz[hidden : 2 * hidden]
        gz_g, gz_o = gz[2 * hidden : 3 * hidden], gz[3 * hidden :]
        _tanh(c[n], q)
        old = c_before[n]
        for j in range(hidden):
            total = from_c[j] + from_h[j] * o[j] * (one - q[j] * q[j])
            gz_i[j] = total * g[j] * i[j] * (one - i[j])
            gz_f[j] = total * old[j] * f[j] * (one - f[j])
            gz_g[j] = total * i[j] * (one - g[j] * g[j])
            gz_o[j] = from_h[j] * q[j] * o[j] * (one - o[j])
            from_c[j] = total * f[j]
            from_h[j] = 0
