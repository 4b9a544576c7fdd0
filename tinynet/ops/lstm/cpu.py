"""lstm on the CPU: samples are independent of each other, so each thread takes some of them through all steps.

No thread waits for another, and its share of a step stays in its own cache: first the product with U by register blocks
(`ops/_cpu/gemm.py`), then the gates.
"""

from __future__ import annotations

import numba
import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.gemm import blocks_of, multiply
from ..activations.cpu import sigmoid_range, tanh_range
from ..matmul.cpu import forward as product
from .weight import gradient_of_weight

ALONE = 1_000_000  # multiply-adds of all steps: with fewer, waking the other threads would take longer than the work


def forward(
    a: np.ndarray, weight: np.ndarray, h0: np.ndarray, c0: np.ndarray, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(states, gates): states (2, T, N, H), all h and all c; gates (T, N, 4 H), its i, f, g, o."""
    a, h0, c0 = map(np.ascontiguousarray, (a, h0, c0))
    states, gates = memory.empty((2, len(a), *h0.shape), a.dtype), memory.empty(a.shape, a.dtype)
    _forward(_threads(a), a, _panels(weight), np.stack([h0, c0]), _ends(lengths, a), (states, gates))
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
    """(ga, gweight, gh0, gc0) from the gradient of the states, (2, T, N, H)."""
    gstates, states, gates = map(np.ascontiguousarray, (gstates, states, gates))
    ga, g = memory.empty(gates.shape, gates.dtype), np.zeros((2, *h0.shape), h0.dtype)
    kept = np.ascontiguousarray(c0), states, gates
    _backward(_threads(gates), _ends(lengths, gates), gstates, kept, _panels(weight.T), (g, ga))
    return ga, gradient_of_weight(product, np.ascontiguousarray(h0), states, ga), g[0], g[1]


def _ends(lengths: np.ndarray | None, a: np.ndarray) -> np.ndarray:
    """The length of each sample."""
    return np.full(a.shape[1], len(a)) if lengths is None else lengths.astype(np.int64)


def _threads(a: np.ndarray) -> int:
    """How many threads share the work: each has at least one sample. a: (T, N, 4 H)."""
    samples, width = a.shape[1:]
    return 1 if a.size * width // 4 < ALONE else min(numba.get_num_threads(), samples)


def _panels(weight: np.ndarray) -> np.ndarray:
    """The matrix (K, C) as panels of columns for `multiply`: (panels, K, width), the last one padded with zeros."""
    terms, columns = weight.shape
    width, panels = blocks_of(columns, weight.dtype)
    padded = np.zeros((terms, panels * width), weight.dtype)
    padded[:, :columns] = weight
    return np.ascontiguousarray(padded.reshape(terms, panels, width).swapaxes(0, 1))


# In place, with one argument: if the same array came as argument and as result, the compiled code would find out that
# they overlap, and would compute number by number.
@jit(fastmath=ELEMENTWISE)
def _sigmoid(values):
    sigmoid_range(values, 0, values.size, (), values)


@jit(fastmath=ELEMENTWISE)
def _tanh(values):
    tanh_range(values, 0, values.size, (), values)


@jit
def _times(a, panels, result):
    """result = a times the matrix of the panels; the result has whole panels of columns."""
    width = panels.shape[2]
    for p in range(len(panels)):
        multiply(a, panels[p], None, result[:, p * width : (p + 1) * width])


@jit
def _forward(threads, a, panels, start, ends, results):
    in_parallel(_forward_share, threads, (threads, a, panels, start, ends, results))


@jit(separate=True)
def _forward_share(thread, threads, a, panels, start, ends, results):
    """All steps of a thread's share of the samples. start: h0 and c0; results: states and gates."""
    states, gates = results
    first, end = share_of(thread, threads, len(ends))
    products = np.empty((end - first, len(panels) * panels.shape[2]), a.dtype)
    for t in range(len(a)):
        h_before, c_before = (states[0, t - 1], states[1, t - 1]) if t else (start[0], start[1])
        _times(h_before[first:end], panels, products)
        for n in range(first, end):
            h, c, hidden = states[0, t, n], states[1, t, n], len(start[0, n])
            z = gates[t, n]
            for j in range(4 * hidden):
                z[j] = a[t, n, j] + products[n - first, j]
            _sigmoid(z[: 2 * hidden])
            _tanh(z[2 * hidden : 3 * hidden])
            _sigmoid(z[3 * hidden :])
            if t < ends[n]:
                _new_state(z, c_before[n], h, c)
            else:
                h[:] = h_before[n]
                c[:] = c_before[n]


@jit(fastmath=ELEMENTWISE)
def _new_state(gates, c_before, h, c):
    hidden = len(h)
    i, f, g, o = gates[:hidden], gates[hidden : 2 * hidden], gates[2 * hidden : 3 * hidden], gates[3 * hidden :]
    for j in range(hidden):
        c[j] = f[j] * c_before[j] + i[j] * g[j]
        h[j] = c[j]
    _tanh(h)
    for j in range(hidden):
        h[j] *= o[j]


@jit
def _backward(threads, ends, gstates, kept, panels, results):
    in_parallel(_backward_share, threads, (threads, ends, gstates, kept, panels, results))


@jit(separate=True)
def _backward_share(thread, threads, ends, gstates, kept, panels, results):
    """All steps of a thread's share of the samples, the last step first.

    kept: c0, and states and gates of each step. panels: of U^T. results: g, which holds gh and gc, those of the step
    before afterwards, and ga.
    """
    first, end = share_of(thread, threads, len(ends))
    (c0, states, gates), (g, ga) = kept, results
    gh, gc, hidden = g[0], g[1], g.shape[2]
    products = np.empty((end - first, len(panels) * panels.shape[2]), ga.dtype)
    q = np.empty(hidden, ga.dtype)
    for t in range(len(ga) - 1, -1, -1):
        c_before = states[1, t - 1] if t else c0
        for n in range(first, end):
            for j in range(hidden):
                gh[n, j] += gstates[0, t, n, j]
                gc[n, j] += gstates[1, t, n, j]
            if t < ends[n]:
                q[:] = states[1, t, n]
                _tanh(q)
                _gate_gradients(gates[t, n], q, c_before[n], gh[n], gc[n], ga[t, n])
            else:
                ga[t, n] = 0
        _times(ga[t, first:end], panels, products)
        for n in range(first, end):
            if t < ends[n]:
                gh[n] = products[n - first, :hidden]


@jit(fastmath=ELEMENTWISE)
def _gate_gradients(gates, q, c_before, gh, gc, gz):
    """gz of one sample, and in the place of gc that of the step before. q: tanh(c)."""
    hidden = len(gh)
    one = gh.dtype.type(1)
    i, f, g, o = gates[:hidden], gates[hidden : 2 * hidden], gates[2 * hidden : 3 * hidden], gates[3 * hidden :]
    gz_i, gz_f, gz_g, gz_o = gz[:hidden], gz[hidden : 2 * hidden], gz[2 * hidden : 3 * hidden], gz[3 * hidden :]
    for j in range(hidden):
        total = gc[j] + gh[j] * o[j] * (one - q[j] * q[j])
        gz_i[j] = total * g[j] * i[j] * (one - i[j])
        gz_f[j] = total * c_before[j] * f[j] * (one - f[j])
        gz_g[j] = total * i[j] * (one - g[j] * g[j])
        gz_o[j] = gh[j] * q[j] * o[j] * (one - o[j])
        gc[j] = total * f[j]
