"""check_reference: the gradients of plain array functions, by the complex step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .call import float64_inputs, random_gradient
from .numeric import complex_step
from .result import CheckResult, InputCheck, concluded


def check_reference(
    forward: Callable[..., np.ndarray],
    backward: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    *,
    seed: int = 0,
    rtol: float = 1e-12,
    raise_error: bool = True,
) -> CheckResult:
    """Check plain array functions, such as the reference kernels of an op, with the complex step.

    forward(*arrays) -> y must be analytic (see `complex_step`); backward(gy, *arrays) -> a tuple of gradients,
    one for each array. arrays: float64, all differentiated. A difference of rtol times the largest element of
    the gradient is accepted. Returns and raises like `gradcheck`.
    """
    arrays = float64_inputs(arrays)
    gy = random_gradient(np.shape(forward(*arrays)), seed)
    gradients = backward(gy, *arrays)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    known = {f"array {k}": a for k, a in enumerate(arrays)} | {"gy": gy}
    checks = []
    for i, (array, analytic) in enumerate(zip(arrays, gradients, strict=True)):
        jacobian = np.empty((*array.shape, *gy.shape))
        direction = [np.zeros(a.shape) for a in arrays]
        for index in np.ndindex(array.shape):
            direction[i][index] = 1.0
            jacobian[index] = complex_step(forward, arrays, direction)
            direction[i][index] = 0.0
        exact = np.tensordot(jacobian, gy, axes=gy.ndim)
        tolerance = np.full(array.shape, rtol * np.max(np.abs(exact), initial=0.0))
        context = {"gy": gy, "jacobian": jacobian, "known": known}
        exact_result = (np.asarray(analytic), exact, np.zeros(array.shape), tolerance)
        checks.append(InputCheck(f"array {i}", *exact_result, method="complex step", context=context))
    return concluded(CheckResult(checks, gy), raise_error)
