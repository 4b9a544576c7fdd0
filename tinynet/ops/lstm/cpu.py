"""lstm on the CPU: samples do not know of each other, so every thread takes some of them through all steps.

It never waits for the others, and its share of a step stays in its own cache: the product with U by register blocks
(`register_rows.py`), then the gates.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from ...backends import memory
from ...backends.numba.jit import jit
from .._cpu.fastmath import ELEMENTWISE, exp_of_nonpositive, expm1_of_nonpositive
from .._cpu.old_simd import lanes_of
from .._cpu.register_rows import multiply_rows
from ..matmul.cpu import forward as product
from .weight import gradient_of_weight

ALONE = 1_000_000  # multiply-adds of all steps: with fewer, waking the other threads would take longer than the work


def forward(
    a: np.ndarray, weight: np.ndarray, h0: np.ndarray, c0: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(states, gates): states (T, 2, N, H), h and c of each step; gates (T, N, 4 H), its i, f, g, o."""
    a, h0, c0 = map(np.ascontiguousarray, (a, h0, c0))
    states, gates = memory.empty((len(a), 2, *h0.shape), a.dtype), memory.empty(a.shape, a.dtype)
    _forward(_threads(a), a, _whole_vectors(weight), h0, c0, _ends(lengths, a), states, gates, lanes_of(a.dtype))
    return states, gates


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
    gstates, states, gates, c0 = map(np.ascontiguousarray, (gstates, states, gates, c0))
    ga = memory.empty(gates.shape, gates.dtype)
    gh, gc = np.zeros(h0.shape, h0.dtype), np.zeros(c0.shape, c0.dtype)
    ends, lanes = _ends(lengths, gates), lanes_of(gates.dtype)
    _backward(_threads(gates), gstates, states, gates, _whole_vectors(weight.T), c0, ends, ga, gh, gc, lanes)
    return ga, gradient_of_weight(product, np.ascontiguousarray(h0), states, ga), gh, gc


def _ends(lengths: np.ndarray | None, a: np.ndarray) -> np.ndarray:
    """The length of each sample."""
    return np.full(a.shape[1], len(a)) if lengths is None else lengths.astype(np.int64)


def _threads(a: np.ndarray) -> int:
    """How many share the work: a sample at least for each. a: (T, N, 4 H)."""
    samples, width = a.shape[1:]
    return 1 if a.size * width // 4 < ALONE else min(numba.get_num_threads(), samples)


def _whole_vectors(weight: np.ndarray) -> np.ndarray:
    """The matrix with columns of zeros added until its rows are whole vectors; two at a time, if it has as many."""
    columns, lanes = weight.shape[1], lanes_of(weight.dtype)
    width = 2 * lanes if columns > lanes else lanes
    return np.ascontiguousarray(np.pad(weight, ((0, 0), (0, -columns % width))))


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


@jit
def _times(rows, a, a0, a_row, weight, result, lanes):
    """result = a weight for so many rows of a, the first at a0; a and result are flat."""
    terms, columns = weight.shape
    flat = weight.reshape(-1)
    width = min(2 * lanes, columns)
    zeros = np.zeros(width, a.dtype)
    for column in range(0, columns, width):
        multiply_rows(
            rows, width > lanes, a, a0, (a_row, 1), flat, column, columns, terms, zeros, result, column, columns, 0
        )


@jit(parallel=True)
def _forward(threads, a, weight, h0, c0, ends, states, gates, lanes):
    samples = len(ends)
    if threads == 1:
        _forward_of(0, samples, a, weight, h0, c0, ends, states, gates, lanes)
    else:
        for i in prange(threads):
            thread = np.int64(i)  # prange may give an unsigned index: the function below would be compiled for both
            first, end = thread * samples // threads, (thread + 1) * samples // threads
            _forward_of(first, end, a, weight, h0, c0, ends, states, gates, lanes)


@jit(parallel=True)
def _backward(threads, gstates, states, gates, weight, c0, ends, ga, gh, gc, lanes):
    samples = len(ends)
    if threads == 1:
        _backward_of(0, samples, gstates, states, gates, weight, c0, ends, ga, gh, gc, lanes)
    else:
        for i in prange(threads):
            thread = np.int64(i)
            first, end = thread * samples // threads, (thread + 1) * samples // threads
            _backward_of(first, end, gstates, states, gates, weight, c0, ends, ga, gh, gc, lanes)


@jit
def _forward_of(first, end, a, weight, h0, c0, ends, states, gates, lanes):
    """All steps of the samples first .. end - 1."""
    width, samples, hidden = weight.shape[1], *h0.shape
    z = np.empty((end - first, width), a.dtype)
    flat_states, flat_h0 = states.reshape(-1), h0.reshape(-1)
    for t in range(len(a)):
        # h of the step before: of two states, each (N, H), the first.
        source, start = (flat_states, (t - 1) * 2 * samples * hidden) if t else (flat_h0, 0)
        _times(end - first, source, start + first * hidden, hidden, weight, z.reshape(-1), lanes)
        for n in range(first, end):
            c_before, h_before = (states[t - 1, 1, n], states[t - 1, 0, n]) if t else (c0[n], h0[n])
            _step(t < ends[n], a[t, n], z[n - first], c_before, h_before, gates[t, n], states[t, 0, n], states[t, 1, n])


@jit(fastmath=ELEMENTWISE)
def _step(goes_on, a, product, c_before, h_before, gates, h, c):
    """The gates and the new state of one sample; product: h_before U."""
    hidden = len(h)
    for j in range(4 * hidden):
        gates[j] = a[j] + product[j]
    i, f, g, o = gates[:hidden], gates[hidden : 2 * hidden], gates[2 * hidden : 3 * hidden], gates[3 * hidden :]
    _sigmoid(gates[: 2 * hidden])
    _tanh(g, g)
    _sigmoid(o)
    if goes_on:
        for j in range(hidden):
            c[j] = f[j] * c_before[j] + i[j] * g[j]
        _tanh(c, h)
        for j in range(hidden):
            h[j] *= o[j]
    else:
        c[:] = c_before
        h[:] = h_before


@jit
def _backward_of(first, end, gstates, states, gates, weight, c0, ends, ga, gh, gc, lanes):
    """All steps of the samples first .. end - 1, the last one first. weight: U^T."""
    samples, hidden = c0.shape
    by_way_of_z = np.empty((end - first, weight.shape[1]), ga.dtype)
    q = np.empty(hidden, ga.dtype)
    flat_ga = ga.reshape(-1)
    for t in range(len(ga) - 1, -1, -1):
        for n in range(first, end):
            c_before = states[t - 1, 1, n] if t else c0[n]
            _step_back(
                t < ends[n], gstates[t, 0, n], gstates[t, 1, n], c_before, states[t, 1, n], gates[t, n], gh[n], gc[n],
                ga[t, n], q,
            )  # fmt: skip
        start = (t * samples + first) * 4 * hidden
        _times(end - first, flat_ga, start, 4 * hidden, weight, by_way_of_z.reshape(-1), lanes)
        for n in range(first, end):
            if t < ends[n]:
                gh[n] = by_way_of_z[n - first, :hidden]


@jit(fastmath=ELEMENTWISE)
def _step_back(goes_on, from_outside_h, from_outside_c, c_before, c, gates, gh, gc, gz, q):
    """ga, and the gc of the step before, of one sample; gh only gets what comes from outside. q: scratch."""
    hidden = len(gh)
    one = gh.dtype.type(1)
    for j in range(hidden):
        gh[j] += from_outside_h[j]
        gc[j] += from_outside_c[j]
    if not goes_on:
        gz[:] = 0
        return
    i, f, g, o = gates[:hidden], gates[hidden : 2 * hidden], gates[2 * hidden : 3 * hidden], gates[3 * hidden :]
    gz_i, gz_f, gz_g, gz_o = gz[:hidden], gz[hidden : 2 * hidden], gz[2 * hidden : 3 * hidden], gz[3 * hidden :]
    _tanh(c, q)
    for j in range(hidden):
        total = gc[j] + gh[j] * o[j] * (one - q[j] * q[j])
        gz_i[j] = total * g[j] * i[j] * (one - i[j])
        gz_f[j] = total * c_before[j] * f[j] * (one - f[j])
        gz_g[j] = total * i[j] * (one - g[j] * g[j])
        gz_o[j] = gh[j] * q[j] * o[j] * (one - o[j])
        gc[j] = total * f[j]
