"""Maxout in Numba: one parallel loop over all units. A group of pieces is contiguous, so all arrays are flat."""

from __future__ import annotations

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import run_count, run_of


def forward(x: np.ndarray, *, pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, winner): y[..., m] = max over j of x[..., m pieces + j], and the int32 j where it was found."""
    shape = (*x.shape[:-1], x.shape[-1] // pieces)
    y = memory.empty(shape, x.dtype)
    winner = memory.empty(shape, np.dtype(np.int32))
    _forward(np.ascontiguousarray(x).reshape(-1), pieces, y.reshape(-1), winner.reshape(-1))
    return y, winner


def backward(gy: np.ndarray, winner: np.ndarray, *, pieces: int) -> np.ndarray:
    """gx[..., m pieces + j] = gy[..., m] where j = winner[..., m], else 0; (..., C)."""
    gx = memory.empty((*gy.shape[:-1], gy.shape[-1] * pieces), gy.dtype)
    _backward(np.ascontiguousarray(gy).reshape(-1), np.ascontiguousarray(winner).reshape(-1), pieces, gx.reshape(-1))
    return gx


@jit(separate=True)
def _forward_run(run, x, pieces, y, winner):
    first, end = run_of(run, y.size, pieces)
    for m in range(first, end):
        best, champion = 0, x[m * pieces]
        for j in range(1, pieces):
            value = x[m * pieces + j]
            # The second condition lets the first NaN win: NaN is the only value that differs from itself. There is no
            # `if`: the winner is random, and a wrong prediction of a branch costs the processor twenty cycles.
            wins = (value > champion) | ((value != value) & (champion == champion))
            best, champion = (j if wins else best), (value if wins else champion)
        y[m], winner[m] = champion, best


@jit
def _forward(x, pieces, y, winner):
    in_parallel(_forward_run, run_count(y.size, pieces), (x, pieces, y, winner))


@jit(separate=True)
def _backward_run(run, gy, winner, pieces, gx):
    first, end = run_of(run, gy.size, pieces)
    gx[first * pieces : end * pieces] = 0
    for m in range(first, end):
        gx[m * pieces + winner[m]] = gy[m]


@jit
def _backward(gy, winner, pieces, gx):
    in_parallel(_backward_run, run_count(gy.size, pieces), (gy, winner, pieces, gx))
