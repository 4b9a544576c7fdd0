"""A step of SGD by its definition. The other tiers must agree.

Operators and NumPy functions only, which work on CuPy's arrays too.
"""

from __future__ import annotations

from ...backends.registry import kernel
from .settings import Arrays, Settings


@kernel
def step(parameters: Arrays, velocities: Arrays | None, gradients: Arrays, settings: Settings) -> None:
    """One step of gradient descent. Changes parameters and velocities in place, and no gradient.

    velocities: zeros before the first step, or None for gradient descent without momentum. Source: see derivation.md.
    """
    lr, momentum, nesterov, weight_decay = settings
    for i, (p, g) in enumerate(zip(parameters, gradients)):
        d = g + weight_decay * p
        if velocities is not None:
            v = velocities[i]
            v[...] = momentum * v + d
            d = d + momentum * v if nesterov else v
        p -= lr * d
