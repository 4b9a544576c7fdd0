"""Gradient clipping: by the norm of all gradients, or element by element."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ...backends.arrays import array_module
from ...backends.devices import to_device
from ...engine.tensor import Tensor
from ...ops.gradient_norm.reference import scale, sum_of_squares
from ..module import Module
from ._checks import check_positive, gradients_of, tensors_of

Parameters = Tensor | Module | Iterable[Tensor]


def clip_grad_norm(parameters: Parameters, max_norm: float) -> float:
    """Scale all gradients by one factor so that their common norm is at most max_norm; return the norm before.

    parameters: a model, a tensor, or tensors; those without a gradient do not count. The norm is the length of all
    gradients as one vector, whose direction does not change. If the norm is not finite, the gradients stay as they are
    and the caller decides. Raises ValueError unless max_norm > 0, and TypeError for parameters that are no tensors.
    Pascanu et al., On the difficulty of training recurrent neural networks, 2013, algorithm 1.
    """
    check_positive("clip_grad_norm", max_norm=max_norm)
    gradients = list(gradients_of("clip_grad_norm", tensors_of("clip_grad_norm", parameters)).values())
    if not gradients:
        return 0.0
    total = to_device(sum_of_squares(gradients), "cpu")  # waits for the GPU
    norm = math.sqrt(float(total))
    if max_norm < norm < math.inf:
        scale(gradients, factor=max_norm / norm)
    return norm


def clip_grad_value(parameters: Parameters, max_value: float) -> None:
    """Clip every element of the gradients to -max_value .. max_value. Raises ValueError unless max_value > 0."""
    check_positive("clip_grad_value", max_value=max_value)
    for g in gradients_of("clip_grad_value", tensors_of("clip_grad_value", parameters)).values():
        array_module(g).clip(g, -max_value, max_value, out=g)
