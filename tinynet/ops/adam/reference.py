"""A step of Adam by its definition. The other tiers must agree.

Operators and NumPy functions only, which work on CuPy's arrays too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def step(
    parameters: Sequence[np.ndarray],
    means: Sequence[np.ndarray],
    squares: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    t: int,
    weight_decay: float = 0.0,
    shrink: float = 0.0,
) -> None:
    """Step t = 1, 2, ... of Adam. Changes parameters, means and squares in place; gradients stay as they are.

    One array of each for every parameter, of its shape and dtype (float). weight_decay is Adam's, inside of the
    gradient; shrink, the share of each weight that is taken off first, makes it AdamW.
    """
    beta1, beta2 = betas
    for p, m, v, g in zip(parameters, means, squares, gradients):
        p *= 1 - shrink
        g = g + weight_decay * p
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        p -= lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
