"""gradcheck, gradgradcheck and check_reference: compare gradients element by element.

Every check multiplies the output by a *random* upstream gradient gy and looks at *all* elements: an upstream
gradient of ones is blind to swapped axes of gy, to a gy that is ignored and to a softmax that returns zeros.

An element is
    ok             if |backward - numeric| <= tolerance
    inconclusive   if the difference lies within the error bar of the numerical derivative (a kink is near)
    wrong          otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import random
from ..tensor import Tensor, grad
from .numeric import Derivative, central_differences, complex_step


class GradientError(AssertionError):
    """A gradient is wrong. `result` is the CheckResult with every element."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(str(result))
        self.result = result


@dataclass(frozen=True)
class InputCheck:
    """What was found for one input; all arrays are float64 of its shape.

    name: 'input 0' and so on. analytic: what backward returned. numeric: the numerical derivative.
    error_bar: how far that can be trusted. tolerance: how much difference is accepted.
    """

    name: str
    analytic: np.ndarray
    numeric: np.ndarray
    error_bar: np.ndarray
    tolerance: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """|analytic - numeric|; infinite where backward gave something that is not finite."""
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(self.analytic), np.abs(self.analytic - self.numeric), np.inf)

    @property
    def is_ok(self) -> np.ndarray:
        """For each element: whether backward agrees with the numerical derivative. bool, of the input's shape."""
        return self.difference <= self.tolerance

    @property
    def is_wrong(self) -> np.ndarray:
        """For each element: whether it differs by more than tolerance and error bar together. bool."""
        # A NaN in `numeric` or its bar makes this comparison false: such an element is inconclusive.
        return ~self.is_ok & ((self.difference > self.tolerance + self.error_bar) | ~np.isfinite(self.analytic))

    @property
    def ok(self) -> int:
        """How many elements agree."""
        return int(np.count_nonzero(self.is_ok))

    @property
    def wrong(self) -> int:
        """How many elements are wrong."""
        return int(np.count_nonzero(self.is_wrong))

    @property
    def inconclusive(self) -> int:
        """How many elements the numerical derivative cannot decide."""
        return int(self.analytic.size - self.ok - self.wrong)

    @property
    def worst(self) -> tuple[int, ...] | None:
        """The index of the wrong element, or if none is, of the ok one, that differs most; None if there is none."""
        eligible = self.is_wrong if self.wrong else self.is_ok
        if not eligible.any():
            return None
        flat = int(np.argmax(np.where(eligible, self.difference, -1.0)))
        return tuple(int(i) for i in np.unravel_index(flat, self.analytic.shape))

    def __str__(self) -> str:
        text = (
            f"{self.name}, shape {self.analytic.shape}: {self.wrong} of {self.analytic.size} elements wrong, "
            f"{self.ok} ok, {self.inconclusive} inconclusive"
        )
        at = self.worst
        if at is not None:
            text += (
                f"; largest difference at {list(at)}: backward gives {self.analytic[at]:.9g}, "
                f"the numerical derivative is {self.numeric[at]:.9g} (error bar {self.error_bar[at]:.1g})"
            )
        return text


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check.

    inputs: one InputCheck for each input that was differentiated. gy: the upstream gradient that was used.
    problems: whatever else is wrong, in sentences. passed: whether nothing is.
    """

    inputs: list[InputCheck]
    gy: np.ndarray
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no element is wrong, no input is undecided and there are no other problems."""
        return not self.problems and all(i.wrong == 0 and not _undecided(i) for i in self.inputs)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        lines = ["gradients agree" if self.passed else "gradient check failed", *self.problems]
        lines += [str(i) for i in self.inputs]
        lines += [
            f"{i.name}: every element is inconclusive, so nothing was checked. Move the values away from kinks "
            "(0 of ReLU, ties of a maximum), or pass a smaller h"
            for i in self.inputs
            if _undecided(i)
        ]
        return "\n  ".join(lines)


def _undecided(check: InputCheck) -> bool:
    return 0 < check.analytic.size == check.inconclusive


def gradcheck(
    fn: Callable[..., Tensor],
    inputs: Sequence[Any],
    *,
    seed: int = 0,
    h: float = 2.0**-13,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    raise_error: bool = True,
) -> CheckResult:
    """Check the gradients of `fn` with respect to every element of every float input.

    fn: takes as many Tensors as there are inputs, returns one Tensor, any shape.
    inputs: float64 arrays or Tensors; arrays of integers or booleans are passed on and not differentiated.
    seed: of the random upstream gradient. h: the step of the central differences (`central_differences`).
    rtol, atol: |backward - numeric| <= atol + rtol * the larger of the two is accepted.

    Checked as well: the inputs and gy are left as they were, the same call gives the same result (dropout's
    masks are frozen meanwhile), and a gy of zeros gives zeros.

    Raises GradientError (unless raise_error=False: then look at the result), TypeError for inputs or an output
    that are not float64, ValueError for an output that is not finite.
    """
    arrays = _float64_inputs(inputs)
    with random.frozen():
        kept = [a.copy() for a in arrays]
        output = _run(fn, arrays)[0].data.copy()
        gy = _random_gradient(output.shape, seed)
        analytic, problems = _analytic(fn, arrays, output, gy)
        for i, (array, before) in enumerate(zip(arrays, kept)):
            if not np.array_equal(array, before, equal_nan=array.dtype.kind == "f"):
                problems.append(f"input {i} was changed in place")
        checks = []
        for i, g in analytic.items():

            def output_of(x: np.ndarray, i: int = i) -> np.ndarray:
                return _run(fn, [*kept[:i], x, *kept[i + 1 :]])[0].data

            numeric = central_differences(output_of, kept[i], gy, h=h)
            tolerance = atol + rtol * np.maximum(np.abs(g), np.abs(numeric.value))
            checks.append(InputCheck(f"input {i}", g, *numeric, tolerance))
    return _conclude(CheckResult(checks, gy, problems), raise_error)


def gradgradcheck(fn: Callable[..., Tensor], inputs: Sequence[Any], **options: Any) -> list[CheckResult]:
    """Check the second derivatives of `fn`: gradcheck of its gradients as functions of the inputs and of gy.

    Arguments and errors as in `gradcheck`. Returns one result for each float input; the last input of each is gy.
    """
    arrays = _float64_inputs(inputs)
    with random.frozen():
        output_shape = _run(fn, arrays)[0].shape
    gy = _random_gradient(output_shape, seed=options.get("seed", 0) + 1)  # not the one gradcheck will draw

    def gradient_of(i: int) -> Callable[..., Tensor]:
        def gradient(*tensors: Tensor) -> Tensor:
            *xs, g = tensors
            return grad(fn(*xs), xs[i], g, create_graph=True)

        return gradient

    return [
        gradcheck(gradient_of(i), [*arrays, gy], **options) for i, array in enumerate(arrays) if array.dtype.kind == "f"
    ]


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
    arrays = _float64_inputs(arrays)
    gy = _random_gradient(np.shape(forward(*arrays)), seed)
    gradients = backward(gy, *arrays)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    checks = []
    for i, (array, analytic) in enumerate(zip(arrays, gradients, strict=True)):
        numeric = np.empty(array.shape)
        direction = [np.zeros(a.shape) for a in arrays]
        for index in np.ndindex(array.shape):
            direction[i][index] = 1.0
            numeric[index] = np.sum(gy * complex_step(forward, arrays, direction))
            direction[i][index] = 0.0
        tolerance = np.full(array.shape, rtol * np.max(np.abs(numeric), initial=0.0))
        exact = Derivative(numeric, error_bar=np.zeros(array.shape))
        checks.append(InputCheck(f"array {i}", np.asarray(analytic), *exact, tolerance))
    return _conclude(CheckResult(checks, gy), raise_error)


def _float64_inputs(inputs: Sequence[Any]) -> list[np.ndarray]:
    """The inputs as arrays, floats in float64 (float32 has 7 digits: too few to take differences)."""
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(f"gradcheck: inputs is a {type(inputs).__name__}; a tuple or list of arrays is needed")
    arrays = [x.data if isinstance(x, Tensor) else np.asarray(x) for x in inputs]
    for i, a in enumerate(arrays):
        if a.dtype.kind not in "iub" and a.dtype != np.float64:
            raise TypeError(f"gradcheck: input {i} is {a.dtype}; float64 is needed, e.g. x.astype('float64')")
    if not any(a.dtype == np.float64 for a in arrays):
        raise TypeError("gradcheck: none of the inputs is float64, there is nothing to differentiate")
    return arrays


def _random_gradient(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Of random sign and between 0.5 and 1.5 in size: no output hides behind a factor near zero."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.5, 1.5, size=shape)


def _run(fn: Callable[..., Tensor], arrays: Sequence[np.ndarray]) -> tuple[Tensor, list[Tensor]]:
    """fn on fresh leaf tensors: (output, leaves)."""
    leaves = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    out = fn(*leaves)
    if not isinstance(out, Tensor) or out.dtype != np.float64:
        what = out.dtype if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise TypeError(f"gradcheck: fn returned {what}; a Tensor of float64 is needed")
    return out, leaves


def _analytic(
    fn: Callable[..., Tensor], arrays: Sequence[np.ndarray], output: np.ndarray, gy: np.ndarray
) -> tuple[dict[int, np.ndarray], list[str]]:
    """({input number: its gradient for gy}, problems); `output` is what an earlier call of fn gave."""
    if not np.isfinite(output).all():
        raise ValueError("gradcheck: the output of fn holds values that are not finite")
    problems = []
    out, leaves = _run(fn, arrays)
    if not np.array_equal(out.data, output):
        problems.append("the same call gave another result: fn is not a function of its inputs alone")
    given = gy.copy()
    gradients = _gradients(out, leaves, given)
    if not np.array_equal(given, gy):
        problems.append("backward changed the upstream gradient gy in place")
    out, leaves = _run(fn, arrays)
    for i, g in _gradients(out, leaves, np.zeros_like(gy)).items():
        if np.any(g != 0):
            problems.append(f"input {i}: a gy of zeros gives a gradient that is not zero")
    return gradients, problems


def _gradients(out: Tensor, leaves: Sequence[Tensor], gy: np.ndarray) -> dict[int, np.ndarray]:
    """Input number -> gradient (a copy) of sum(gy * out); zeros if out has no history at all."""
    wanted = {i: leaf for i, leaf in enumerate(leaves) if leaf.requires_grad}
    if not out.requires_grad:
        return {i: np.zeros(leaf.shape) for i, leaf in wanted.items()}
    gradients = grad(out, list(wanted.values()), gy)
    return {i: g.data.copy() for i, g in zip(wanted, gradients)}


def _conclude(result: CheckResult, raise_error: bool) -> CheckResult:
    if raise_error and not result.passed:
        raise GradientError(result)
    return result
