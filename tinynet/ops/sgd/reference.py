"""A step of SGD by its definition. The other tiers must agree.

Operators and NumPy functions only, which work on CuPy's arrays too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...backends.registry import kernel


@kernel
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
    """One step of gradient descent. Changes parameters and velocities in place, and no gradient.

    Each sequence holds one array for every parameter, of the parameter's shape and dtype (float32 or float64).
    velocities: zeros before the first step, or None for gradient descent without momentum; `momentum` and `nesterov`
    then have no effect. Source: see derivation.md.
    """
    for i, (p, g) in enumerate(zip(parameters, gradients)):
        d = g + weight_decay * p
        if velocities is not None:
            v = velocities[i]
            v[...] = momentum * v + d
            d = d + momentum * v if nesterov else v
        p -= lr * d
