"""A step of Adam in CUDA, all parameters in one launch: see adam.cu."""

from __future__ import annotations

from pathlib import Path

from ...backends.cuda.source import Source
from .._cuda.tensor_table import launch_over_tensors
from .settings import Arrays, Settings

SOURCE = Source(Path(__file__).with_name("adam.cu"))


def step(parameters: Arrays, means: Arrays, squares: Arrays, gradients: Arrays, t: int, settings: Settings) -> None:
    """Step t = 1, 2, ... of Adam or AdamW. Changes parameters, means and squares in place, and no gradient."""
    arrays = {"parameters": parameters, "means": means, "squares": squares, "gradients": gradients}
    launch_over_tensors(SOURCE, "adam_step", arrays, 3, *settings.constants(t))
