"""A step of Adam by its definition. The other tiers must agree.

Operators and NumPy functions only, which work on CuPy's arrays too.
"""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .settings import Arrays, Settings


@kernel
def step(parameters: Arrays, means: Arrays, squares: Arrays, gradients: Arrays, t: int, settings: Settings) -> None:
    """Step t = 1, 2, ... of Adam or AdamW. Changes parameters, means and squares in place, and no gradient.

    means and squares are zeros before step 1. Source: see derivation.md.
    """
    lr, (beta1, beta2), eps, weight_decay, decoupled_weight_decay = settings
    for p, m, v, g in zip(parameters, means, squares, gradients):
        p *= 1 - lr * decoupled_weight_decay
        g = g + weight_decay * p
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        mean, square = m / (1 - beta1**t), v / (1 - beta2**t)  # bias correction: m and v started at 0
        p -= lr * mean / (np.sqrt(square) + eps)
