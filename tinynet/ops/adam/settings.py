"""The hyperparameters of Adam, as every tier's `step` receives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

Arrays = Sequence[Any]  # one array for each parameter of a model, of its shape and dtype (float32 or float64)


class Settings(NamedTuple):
    """Hyperparameters of Adam and AdamW.

    lr: the learning rate. betas: how much of each running mean is kept in a step, 0 <= beta < 1. eps: > 0.
    weight_decay: Adam's, added to the gradient. decoupled_weight_decay: AdamW's, which shortens the weights directly.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: float = 0.0

    def constants(self, t: int) -> tuple[float, float, float, float, float, float]:
        """What the one-pass loops of cpu.py and adam.cu need in step t, computed once for all weights.

        Returns (keep, weight_decay, 1 - beta1, 1 - beta2, rate, eps); derivation.md derives rate and this eps.
        """
        beta1, beta2 = self.betas
        c = math.sqrt(1 - beta2**t)
        keep = 1 - self.lr * self.decoupled_weight_decay
        return keep, self.weight_decay, 1 - beta1, 1 - beta2, self.lr * c / (1 - beta1**t), c * self.eps
