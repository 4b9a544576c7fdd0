"""resize along one axis by its definition: right in any floating-point dtype. The other tiers must agree.

x (A, n, B), y (A, m, B): the axis that changes is the middle one. What an output lies between: positions.py.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .positions import positions


@kernel
def forward(x: np.ndarray, size: int, mode: str) -> np.ndarray:
    """y (A, size, B): y[a, j, b] = (1 - f) x[a, i, b] + f x[a, i + 1, b] with i = lower[j], f = fraction[j]."""
    lower, fraction, _ = positions(x.shape[1], size, mode)
    y = np.empty((x.shape[0], size, x.shape[2]), x.dtype)
    for j, (i, f) in enumerate(zip(lower, fraction)):
        y[:, j] = x[:, i] if f == 0 else (1 - f) * x[:, i] + f * x[:, i + 1]
    return y


@kernel
def backward(gy: np.ndarray, size: int, mode: str) -> np.ndarray:
    """gx (A, size, B): each output gives its gradient to its two inputs, in the same shares."""
    lower, fraction, _ = positions(size, gy.shape[1], mode)
    gx = np.zeros((gy.shape[0], size, gy.shape[2]), gy.dtype)
    for j, (i, f) in enumerate(zip(lower, fraction)):
        gx[:, i] += (1 - f) * gy[:, j]
        if f > 0:
            gx[:, i + 1] += f * gy[:, j]
    return gx
