"""The gradient of conv2d's epilogue in Numba: dropout's mask and ELU's derivative in one pass over memory."""

from __future__ import annotations

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.elementwise import range_count, range_of, run
from .._cpu.fastmath import ELEMENTWISE
from .._shared.epilogue import Epilogue
from ..activations.cpu import PARTS
from ..dropout.cpu import Mask
from ..dropout.cpu import forward_range as dropout_range


def backward(gy: np.ndarray, y: np.ndarray, epilogue: Epilogue) -> np.ndarray:
    """gz, the gradient of the convolution's result, of gy and of y, the result of conv2d with this epilogue."""
    alpha, p = epilogue.alpha, epilogue.p
    if p == 0:
        return PARTS["elu"].backward(gy, y, alpha=alpha)
    return run(_backward, (gy, y), (alpha, 1 - p, Mask.of(**epilogue.mask, dtype=y.dtype)))


@jit(separate=True, fastmath=ELEMENTWISE)
def _backward_range(r, gy, y, alpha, keep, mask, gz):
    """One range of elements. keep: the share of elements that dropout keeps."""
    (first, end), one = range_of(r, y.size), y.dtype.type(1)
    dropout_range(gy, first, end, mask, gz)
    for i in range(first, end):
        gz[i] *= one if y[i] > 0 else y[i] * keep + alpha


@jit
def _backward(gy, y, alpha, keep, mask, gz):
    in_parallel(_backward_range, range_count(y.size), (gy, y, alpha, keep, mask, gz))
