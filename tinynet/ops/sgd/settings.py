"""The hyperparameters of SGD, as every tier's `step` receives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Arrays = Sequence[Any]  # one array for each parameter of a model, of its shape and dtype (float32 or float64)


class Settings(NamedTuple):
    """Hyperparameters of SGD.

    lr: the learning rate. momentum, nesterov: without effect where there are no velocities. weight_decay: added to the
    gradient.
    """

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
