"""What a convolution does with a piece of its result while that is still in the cache: ELU and dropout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...backends.numba.jit import jit
from .._cpu.fastmath import ELEMENTWISE
from .._cpu.reduction import REDUCTION
from ..dropout.cpu import forward_range as dropout_range
from ..elu.cpu import forward_range as elu_range

U = np.uint64


class Activation(NamedTuple):
    """Which of the two follow, and their parameters in the types that the loops of elu and dropout want."""

    elu: bool
    dropout: bool
    alpha: np.floating
    scale: np.floating
    threshold: np.uint64
    seed: np.uint64
    stream: np.uint64
    step: np.uint64

    @classmethod
    def none(cls, dtype: np.dtype) -> Activation:
        """Neither."""
        return cls.of(dtype, 1.0, 0.0, 0, 0, 0)._replace(elu=False)

    @classmethod
    def of(cls, dtype: np.dtype, alpha: float, p: float, seed: int, stream: int, step: int) -> Activation:
        """ELU, then dropout unless p is 0."""
        numbers = (dtype.type(alpha), dtype.type(1 / (1 - p)), U(round(p * 2**32)), U(seed), U(stream), U(step))
        return cls(True, p > 0, *numbers)


@jit(fastmath=ELEMENTWISE)
def activate(y, start, stop, activation):
    """Elements start .. stop - 1 of a flat array, in place."""
    if activation.elu:
        elu_range(y, start, stop, activation.alpha, y)
    if activation.dropout:
        a = activation
        dropout_range(y, start, stop, a.scale, a.threshold, a.seed, a.stream, a.step, y)


@jit(fastmath=REDUCTION)
def is_finite(y, start, stop):
    """Whether elements start .. stop - 1 are: 0 times anything finite is 0."""
    total = y.dtype.type(0)
    for i in range(U(start), U(stop)):
        total += y[i] * y.dtype.type(0)
    return total == 0
