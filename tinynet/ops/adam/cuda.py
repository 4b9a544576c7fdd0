"""A step of Adam in CUDA, all parameters in one launch: see adam.cu."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from .._cuda.tensor_table import launch_over_tensors
from .formula import constants

SOURCE = Source(Path(__file__).with_name("adam.cu"))


def step(
    parameters: Sequence[Any],
    means: Sequence[Any],
    squares: Sequence[Any],
    gradients: Sequence[Any],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    t: int,
    weight_decay: float = 0.0,
    shrink: float = 0.0,
) -> None:
    """Step t = 1, 2, ... of Adam. Changes parameters, means and squares in place; gradients stay as they are."""
    arrays = {"parameters": parameters, "means": means, "squares": squares, "gradients": gradients}
    launch_over_tensors(SOURCE, "adam_step", arrays, 3, *constants(lr, betas, eps, t, weight_decay, shrink))
