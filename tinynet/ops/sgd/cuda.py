"""A step of SGD in CUDA, all parameters in one launch: see sgd.cu."""

from __future__ import annotations

from pathlib import Path

from ...backends.cuda.source import Source
from .._cuda.tensor_table import launch_over_tensors
from .settings import Arrays, Settings

SOURCE = Source(Path(__file__).with_name("sgd.cu"))


def step(parameters: Arrays, velocities: Arrays | None, gradients: Arrays, settings: Settings) -> None:
    """One step of gradient descent. Changes parameters and velocities in place, and no gradient."""
    lr, momentum, nesterov, weight_decay = settings
    if velocities is None:
        arrays = {"parameters": parameters, "gradients": gradients}
        launch_over_tensors(SOURCE, "sgd_step", arrays, 1, lr, weight_decay)
    else:
        arrays = {"parameters": parameters, "velocities": velocities, "gradients": gradients}
        scalars = lr, weight_decay, momentum, int(nesterov)
        launch_over_tensors(SOURCE, "sgd_momentum_step", arrays, 2, *scalars)
