"""A step of Adam in Numba: the formula of reference.py in one pass over memory."""

from __future__ import annotations

import math

from .._cpu.elementwise import range_of
from .._cpu.in_place import ElementLoop
from .settings import Arrays, Settings


def step(parameters: Arrays, means: Arrays, squares: Arrays, gradients: Arrays, t: int, settings: Settings) -> None:
    """Step t = 1, 2, ... of Adam or AdamW. Changes parameters, means and squares in place, and no gradient."""
    _update.run(zip(parameters, means, squares, gradients), 3, settings.constants(t))


@ElementLoop
def _update(r, p, m, v, g, constants):
    keep, weight_decay, one_minus_beta1, one_minus_beta2, rate, eps = constants
    first, end = range_of(r, p.size)
    for i in range(first, end):
        p_i = keep * p[i]
        g_i = g[i] + weight_decay * p_i
        m_i = m[i] + one_minus_beta1 * (g_i - m[i])
        v_i = v[i] + one_minus_beta2 * (g_i * g_i - v[i])
        p[i] = p_i - rate * m_i / (math.sqrt(v_i) + eps)
        m[i], v[i] = m_i, v_i
