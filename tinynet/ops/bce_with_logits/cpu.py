"""Binary cross-entropy with logits in Numba: one pass over memory, in parallel over fixed chunks."""

from __future__ import annotations

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import range_count, range_of, run
from .._cpu.fastmath import ELEMENTWISE, exp_of_nonpositive, log1p_of_unit
from .._cpu.reduction import CHUNK, chunk_count, sum_float64

U = np.uint64


def forward(x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None, *, pos_weight: float = 1.0) -> np.ndarray:
    """L = (1/M) sum of w [q t softplus(-x) + (1 - t) softplus(x)], shape (), dtype of x; the sum is float64."""
    flat_x, flat_t = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(t).reshape(-1)
    flat_w = None if w is None else np.ascontiguousarray(w).reshape(-1)
    partial = np.empty(chunk_count(x.size))
    _sums(flat_x, flat_t, flat_w, x.dtype.type(pos_weight), partial)
    return np.asarray(partial.sum() / x.size).astype(x.dtype)


def backward(
    gy: np.ndarray, x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None, *, pos_weight: float = 1.0
) -> np.ndarray:
    """gx = gy (w / M) [(1 - t) sigma(x) - q t sigma(-x)], of the shape and dtype of x."""
    gx = run(_backward, (x, t), (gy / x.size, pos_weight))
    return gx if w is None else np.multiply(gx, w, out=gx)


@jit(separate=True, fastmath=ELEMENTWISE)
def _sum_chunk(c, x, t, w, q, partial):
    """The sum of the losses of chunk c. w may be None: Numba then compiles the function without it."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    first, end = U(c * CHUNK), U(min((c + 1) * CHUNK, x.size))  # unsigned: no test for negative indices
    losses = np.empty(end - first, x.dtype)
    # Two loops, because both are vectorized: the losses in the dtype of x, then their sum in float64.
    for i in range(first, end):
        x_i, t_i = x[i], t[i]
        log_part = log1p_of_unit(exp_of_nonpositive(-abs(x_i)))
        softplus_x = max(x_i, zero) + log_part
        softplus_minus_x = max(-x_i, zero) + log_part
        loss = q * t_i * softplus_minus_x + (one - t_i) * softplus_x
        losses[i - first] = loss if w is None else loss * w[i]
    partial[c] = sum_float64(losses)


@jit
def _sums(x, t, w, q, partial):
    in_parallel(_sum_chunk, partial.size, (x, t, w, q, partial))


@jit(separate=True, fastmath=ELEMENTWISE)
def _backward_range(r, x, t, gy_over_size, q, gx):
    (first, end), one = range_of(r, x.size), x.dtype.type(1)
    for i in range(first, end):
        e = exp_of_nonpositive(-abs(x[i]))
        sigma_x = (e if x[i] < 0 else one) / (one + e)
        sigma_minus_x = (one if x[i] < 0 else e) / (one + e)
        gx[i] = gy_over_size * ((one - t[i]) * sigma_x - q * t[i] * sigma_minus_x)


@jit
def _backward(x, t, gy_over_size, q, gx):
    in_parallel(_backward_range, range_count(x.size), (x, t, gy_over_size, q, gx))
