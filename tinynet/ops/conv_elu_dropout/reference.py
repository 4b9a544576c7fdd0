"""The gradient of conv2d's epilogue, by the definitions of dropout and ELU. The other tiers must agree."""

from __future__ import annotations

import numpy as np

from ...backends.registry import kernel
from .._shared.epilogue import Epilogue
from ..activations.entries import Elu
from ..dropout import reference as dropout


@kernel
def backward(gy: np.ndarray, y: np.ndarray, epilogue: Epilogue) -> np.ndarray:
    """gz, the gradient of the convolution's result, of gy and of y, the result of conv2d with this epilogue.

    A kept y is the output of ELU divided by 1 - p, so y (1 - p) is what ELU's gradient needs. Where y was dropped it
    is 0, and so is the gradient.
    """
    g = dropout.forward.definition(gy, **epilogue.mask)
    return Elu.gradient(g, y * (1 - epilogue.p), epilogue.alpha)
