"""The gradient of conv2d's epilogue on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from .._cuda.elementwise import VARIANTS, run
from .._shared.epilogue import Epilogue

SOURCE = Source(Path(__file__).with_name("conv_elu_dropout.cu"), VARIANTS)


def backward(gy: Any, y: Any, epilogue: Epilogue) -> Any:
    """gz, the gradient of the convolution's result, of gy and of y, the result of conv2d with this epilogue."""
    alpha, p, seed, stream, step, first = epilogue
    scalars = (alpha, 1 - p, 1 / (1 - p), round(p * 2**32), seed, stream, step, first)
    # A thread with four elements draws one counter, so word number `first` must be the first of a counter.
    return run(SOURCE, "conv_elu_dropout_backward", (gy, y), scalars, multiples=(first,))
