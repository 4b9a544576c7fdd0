"""A step of SGD in CUDA, all parameters in one launch: see sgd.cu."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from .._cuda.tensor_table import launch_over_tensors

SOURCE = Source(Path(__file__).with_name("sgd.cu"))


def step(
    parameters: Sequence[Any],
    velocities: Sequence[Any] | None,
    gradients: Sequence[Any],
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """One step of gradient descent. Changes parameters and velocities in place, and no gradient."""
    if velocities is None:
        arrays = {"parameters": parameters, "gradients": gradients}
        launch_over_tensors(SOURCE, "sgd_step", arrays, 1, lr, weight_decay)
    else:
        arrays = {"parameters": parameters, "velocities": velocities, "gradients": gradients}
        scalars = lr, weight_decay, momentum, int(nesterov)
        launch_over_tensors(SOURCE, "sgd_momentum_step", arrays, 2, *scalars)
