"""Seeded, counter-based randomness.

One number, the seed, fixes a whole run. Every consumer of randomness (the initial value of a parameter, a dropout
layer) takes its own *stream* when it is made. Seed and stream together are the key of a generator, so streams are
independent, and a new layer does not change the random numbers of the other layers.

Dropout's masks are *counter-based* (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011): each random
number is a function of (seed, stream, step, element). So a mask is never stored; backward computes it again.
"""

from __future__ import annotations

import contextlib
import itertools
from contextvars import ContextVar

import numpy as np

from ..backends.context import set_inside
from .foreign import module_getattr

__getattr__ = module_getattr(__name__)
_state = (0, itertools.count(1))  # the seed, the next stream
_frozen: ContextVar[bool] = ContextVar("frozen", default=False)


def seed(value: int) -> None:
    """Restart all streams: models built after the same `seed(value)` are equal, and so are their dropout masks.

    value: 0 <= value < 2**32. Raises ValueError outside that range. The seed holds for all threads, and each stream is
    given out once. Which thread gets which depends on chance: for equal models, make them in one thread.
    """
    global _state
    if not 0 <= int(value) < 2**32:
        raise ValueError(f"seed: value is {value}; it must lie in 0 .. 2**32 - 1")
    _state = int(value), itertools.count(1)


def new_stream() -> tuple[int, int]:
    """(seed, stream): the key of an independent source of randomness."""
    value, streams = _state
    return value, next(streams)  # one step of the interpreter: no two threads get the same stream


def generator() -> np.random.Generator:
    """A NumPy generator with its own stream, for example for initial values."""
    return np.random.default_rng(new_stream())


def frozen() -> contextlib.AbstractContextManager[None]:
    """Inside `with frozen():` a dropout layer draws the same mask at every call, as a gradient check needs."""
    return set_inside(_frozen, True)


def is_frozen() -> bool:
    """True if random layers should repeat their step instead of going on to the next one."""
    return _frozen.get()
