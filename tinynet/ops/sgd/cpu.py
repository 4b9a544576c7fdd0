"""A step of SGD in Numba: one pass over memory, by several threads for a parameter that is large enough."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import numpy as np
from numba import prange

from ...backends.numba.jit import jit

# Elements from which on several threads are quicker than one, although they have to be woken first.
LARGE = 65536


def step(
    parameters: Sequence[np.ndarray],
    velocities: Sequence[np.ndarray] | None,
    gradients: Sequence[np.ndarray],
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """A step of gradient descent. Changes parameters and velocities in place; gradients stay as they are."""
    for p, v, g in zip(parameters, velocities or repeat(None), gradients):
        flat_p, flat_v, flat_g = (None if a is None else np.ascontiguousarray(a).reshape(-1) for a in (p, v, g))
        kernel = _step_parallel if p.size >= LARGE else _step
        kernel(flat_p, flat_v, flat_g, *(p.dtype.type(s) for s in (lr, momentum, weight_decay)), nesterov)
        for array, changed in ((p, flat_p), (v, flat_v)):
            if array is not None and not array.flags.c_contiguous:  # then `changed` is a copy
                array[...] = changed.reshape(array.shape)


def _one_pass(p, v, g, lr, momentum, weight_decay, nesterov):
    """v may be None: Numba then compiles the function without it."""
    for i in prange(p.size):
        d = g[i] + weight_decay * p[i]
        if v is not None:
            v_i = momentum * v[i] + d
            v[i] = v_i
            d = d + momentum * v_i if nesterov else v_i
        p[i] -= lr * d


# The same loop twice: in the first, prange is range.
_step = jit(_one_pass)
_step_parallel = jit(parallel=True)(_one_pass)
