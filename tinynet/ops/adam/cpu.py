"""A step of Adam in Numba: one pass over memory, by several threads for a parameter that is large enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from .formula import constants

# Elements from which on several threads are quicker than one, although they have to be woken first.
LARGE = 65536


def step(
    parameters: Sequence[np.ndarray],
    means: Sequence[np.ndarray],
    squares: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    t: int,
    weight_decay: float = 0.0,
    shrink: float = 0.0,
) -> None:
    """Step t = 1, 2, ... of Adam. Changes parameters, means and squares in place; gradients stay as they are."""
    settings = constants(lr, betas, eps, t, weight_decay, shrink)
    for arrays in zip(parameters, means, squares, gradients):
        flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
        kernel = _step_parallel if flat[0].size >= LARGE else _step
        kernel(*flat, *(flat[0].dtype.type(c) for c in settings))
        for array, changed in zip(arrays[:3], flat):
            if not array.flags.c_contiguous:  # then `changed` is a copy
                array[...] = changed.reshape(array.shape)


def _one_pass(p, m, v, g, keep, weight_decay, share1, share2, rate, eps):
    for i in prange(p.size):
        p_i = keep * p[i]
        g_i = g[i] + weight_decay * p_i
        m_i = m[i] + share1 * (g_i - m[i])
        v_i = v[i] + share2 * (g_i * g_i - v[i])
        m[i] = m_i
        v[i] = v_i
        p[i] = p_i - rate * m_i / (math.sqrt(v_i) + eps)


# The same loop twice: in the first, prange is range.
_step = jit(_one_pass)
_step_parallel = jit(parallel=True)(_one_pass)
