"""What depends on the step only: the same few numbers in every loop over the weights."""

from __future__ import annotations

import math


def constants(
    lr: float, betas: tuple[float, float], eps: float, t: int, weight_decay: float, shrink: float
) -> tuple[float, ...]:
    """(keep, weight_decay, share1, share2, rate, eps) of the one pass in derivation.md; eps is already times c."""
    beta1, beta2 = betas
    c = math.sqrt(1 - beta2**t)
    return 1 - shrink, weight_decay, 1 - beta1, 1 - beta2, lr * c / (1 - beta1**t), c * eps
