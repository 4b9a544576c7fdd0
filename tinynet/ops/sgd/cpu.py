"""A step of SGD in Numba: the formula of reference.py in one pass over memory."""

from __future__ import annotations

from itertools import repeat

from .._cpu.elementwise import range_of
from .._cpu.in_place import ElementLoop
from .settings import Arrays, Settings


def step(parameters: Arrays, velocities: Arrays | None, gradients: Arrays, settings: Settings) -> None:
    """One step of gradient descent. Changes parameters and velocities in place, and no gradient."""
    tensors = zip(parameters, velocities or repeat(None), gradients)
    lr, momentum, nesterov, weight_decay = settings
    _update.run(tensors, 2, (lr, momentum, weight_decay), nesterov)


@ElementLoop
def _update(r, p, v, g, constants, nesterov):
    """v may be None: Numba then compiles the function without momentum."""
    lr, momentum, weight_decay = constants
    first, end = range_of(r, p.size)
    for i in range(first, end):
        d = g[i] + weight_decay * p[i]
        if v is not None:
            v_i = momentum * v[i] + d
            v[i] = v_i
            d = d + momentum * v_i if nesterov else v_i
        p[i] -= lr * d
