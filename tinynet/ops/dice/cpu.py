"""The soft Dice loss in Numba: two sums in one pass over memory, in parallel over fixed chunks."""

from __future__ import annotations

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import run
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.reduction import CHUNK, REDUCTION, chunk_count
from .formula import loss_of, slopes_of

U = np.uint64


def forward(
    p: np.ndarray, t: np.ndarray, *, smooth: float = 1.0, per_image: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(loss, sums): the loss (), in the dtype of p, and I and S of each group (G, 2), in float64."""
    groups = len(p) if per_image else 1
    p, t = (np.ascontiguousarray(a).reshape(groups, -1) for a in (p, t))
    partial = np.empty((groups, chunk_count(p.shape[1]), 2))
    _sums(p, t, partial)
    sums = partial.sum(axis=1)
    return loss_of(sums, smooth).astype(p.dtype), sums


def backward(gy: np.ndarray, t: np.ndarray, sums: np.ndarray, *, smooth: float = 1.0) -> np.ndarray:
    """gp = gy (constant_g - slope_g t), of the shape and dtype of t."""
    constant, slope = ((gy * values).astype(t.dtype) for values in slopes_of(sums, smooth))
    return run(_backward, (t, constant, slope), ())


@jit(separate=True, fastmath=REDUCTION)
def _sum_chunk(k, p, t, partial):
    g, c = divmod(k, partial.shape[1])
    p_g, t_g = p[g], t[g]
    overlap, total = 0.0, 0.0
    for i in range(U(c * CHUNK), U(min((c + 1) * CHUNK, p.shape[1]))):  # unsigned: no test for negative indices
        p_i, t_i = np.float64(p_g[i]), np.float64(t_g[i])
        overlap += p_i * t_i
        total += p_i + t_i
    partial[g, c, 0] = overlap
    partial[g, c, 1] = total


@jit
def _sums(p, t, partial):
    in_parallel(_sum_chunk, len(p) * partial.shape[1], (p, t, partial))


@jit(separate=True, fastmath=ELEMENTWISE)
def _backward_chunk(k, t, constant, slope, gp):
    length = t.size // constant.size
    g, c = divmod(k, -(-length // CHUNK))
    constant_g, slope_g = constant[g], slope[g]
    for i in range(U(g * length + c * CHUNK), U(g * length + min((c + 1) * CHUNK, length))):
        gp[i] = constant_g - slope_g * t[i]


@jit
def _backward(t, constant, slope, gp):
    chunks = -(-(t.size // constant.size) // CHUNK)
    in_parallel(_backward_chunk, constant.size * chunks, (t, constant, slope, gp))
