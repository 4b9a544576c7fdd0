"""ELU and dropout for Numba kernels that apply them to a part of their result while it is in the cache."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import range_count, range_of
from .._cpu.fastmath import ELEMENTWISE
from .._shared.epilogue import Epilogue
from ..activations.cpu import elu_range
from ..dropout.cpu import Mask
from ..dropout.cpu import forward_range as dropout_range

U = np.uint64


class Activation(NamedTuple):
    """An Epilogue in the types that the loops of elu and dropout need."""

    elu: bool
    dropout: bool
    alpha: np.floating
    scale: np.floating
    threshold: np.uint64
    seed: np.uint64
    stream: np.uint64
    step: np.uint64
    first: np.uint64

    @classmethod
    def of(cls, epilogue: Epilogue, dtype: np.dtype) -> Activation:
        alpha, mask = epilogue.alpha, Mask.of(**epilogue.mask, dtype=dtype)
        return cls(alpha is not None, epilogue.p > 0, dtype.type(alpha or 0), *mask)


@jit(separate=True, fastmath=ELEMENTWISE)
def activate(y, start, stop, activation):
    """Apply the activation to the elements start .. stop - 1 of a flat array, in place."""
    if activation.elu:
        elu_range(y, start, stop, (activation.alpha,), y)
    if activation.dropout:
        a = activation  # Numba's parallel loops take no tuple within a tuple, so the mask is put together here
        dropout_range(y, start, stop, Mask(a.scale, a.threshold, a.seed, a.stream, a.step, a.first), y)


@jit(separate=True)
def _activate_range(r, y, activation):
    first, end = range_of(r, y.size)
    activate(y, np.int64(first), np.int64(end), activation)  # as the convolutions call it


@jit
def _activate_all(y, activation):
    in_parallel(_activate_range, range_count(y.size), (y, activation))


def finish(y: np.ndarray, epilogue: Epilogue) -> None:
    """Apply the epilogue to a whole contiguous array, in place."""
    activation = Activation.of(epilogue, y.dtype)
    if activation.elu or activation.dropout:
        _activate_all(y.reshape(-1), activation)
