"""A step of SGD by its definition. The other tiers must agree.

Operators and NumPy functions only, which work on CuPy's arrays too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def step(
    parameters: Sequence[np.ndarray],
    velocities: Sequence[np.ndarray] | None,
    gradients: Sequence[np.ndarray],
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """A step of gradient descent. Changes parameters and velocities in place; gradients stay as they are.

    One array of each for every parameter, of its shape and dtype (float). velocities: None means no momentum, and
    `momentum` and `nesterov` do not count.
    """
    for i, (p, g) in enumerate(zip(parameters, gradients)):
        d = g + weight_decay * p
        if velocities is not None:
            v = velocities[i]
            v[...] = momentum * v + d
            d = d + momentum * v if nesterov else v
        p -= lr * d
