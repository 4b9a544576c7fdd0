"""Maxout on Tensors."""

from __future__ import annotations

import operator

from ...backends.arrays import array_module
from ...engine.basic_ops import expand_dims, reshape, where
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import backward, forward


def maxout(x: Tensor, pieces: int) -> Tensor:
    """The largest of each `pieces` neighboring channels: y[..., m] = max over j of x[..., m pieces + j].

    x: (..., C), float, C a multiple of pieces; pieces >= 1. Returns (..., C / pieces) in the dtype of x. The
    gradient goes to the largest piece, of equal ones to the first.
    Raises TypeError for integers in x and ValueError where pieces does not fit.
    Source: Goodfellow et al., Maxout Networks, ICML 2013, section 3.
    """
    check_float("maxout", x=x)
    try:
        pieces = operator.index(pieces)
    except TypeError:
        raise TypeError(f"maxout: pieces is {pieces!r}; an integer is needed") from None
    if pieces < 1:
        raise ValueError(f"maxout: pieces is {pieces}; it must be at least 1")
    if x.ndim == 0 or x.shape[-1] % pieces:
        raise ValueError(f"maxout: x {tuple(x.shape)} needs channels as its last axis, a multiple of pieces = {pieces}")
    return Maxout.apply(x, pieces=pieces)


class Maxout(Function):
    def forward(self, x, *, pieces):
        y, winner = forward(x, pieces=pieces)
        self.save(winner)
        self.pieces = pieces
        return y

    def backward(self, gy):
        (winner,) = self.saved
        return backward(gy, winner, pieces=self.pieces)

    def backward_graph(self, gy):
        (winner,) = self.saved
        is_winner = winner[..., None] == array_module(winner).arange(self.pieces)
        gx = where(is_winner, expand_dims(gy, -1), 0.0)
        return reshape(gx, (*gy.shape[:-1], gy.shape[-1] * self.pieces))
