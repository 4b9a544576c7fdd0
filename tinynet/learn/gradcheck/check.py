"""gradcheck, gradgradcheck and check_reference: compare gradients element by element.

Every check multiplies the output by a *random* upstream gradient gy and looks at *all* elements: an upstream
gradient of ones is blind to swapped axes of gy, to a gy that is ignored and to a softmax that returns zeros.

An element is
    ok             if |backward - numeric| <= tolerance
    inconclusive   if the difference lies within the error bar of the numerical derivative (a kink is near)
    wrong          otherwise.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine.tensor import Tensor, grad
from . import mistakes
from .call import (
    argument_names,
    check_finite,
    float64_inputs,
    on_cpu,
    output_and_gradients,
    output_of,
    refused_gradients,
    usual_axes,
)
from .directions import along, random_directions, wrong_slices
from .explain import explain
from .invariants import dtype_problems, problems_of
from .numeric import Derivative, central_differences, complex_step, refined
from .result import CheckResult, Context, GradientError, InputCheck
from .shrink import described, smallest
from .where import default_axes

# The complex step is exact, so where it works the tolerance is multiplied by this.
EXACT = 1e-3

NOT_A_FUNCTION = (
    "the same call gave another result: fn is not a function of its inputs alone. It is random (draw outside of fn; "
    "tinynet's own dropout is frozen here), or remembers something from call to call"
)


@dataclass(frozen=True)
class _Subject:
    """What is checked and how: the arguments of `gradcheck`, and what follows from them."""

    fn: Callable[..., Tensor]
    arrays: list[np.ndarray]
    labels: list[str]  # of the inputs, '' where fn does not tell
    axes: list[Sequence[str]]
    output: np.ndarray
    gy: np.ndarray
    gy_axes: Sequence[str]
    seed: int
    h: float
    rtol: float
    atol: float

    @property
    def names(self) -> list[str]:
        return [label or f"input {i}" for i, label in enumerate(self.labels)]

    def run(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return output_of(self.fn, arrays)

    def function_of(self, i: int) -> Callable[[np.ndarray], np.ndarray]:
        """The output as a function of input i alone."""
        return lambda x: self.run([*self.arrays[:i], x, *self.arrays[i + 1 :]])

    def tolerance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.atol + self.rtol * np.maximum(np.abs(a), np.abs(b))


def gradcheck(
    fn: Callable[..., Tensor],
    inputs: Sequence[Any],
    *,
    mode: str = "elements",
    seed: int = 0,
    h: float = 2.0**-13,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    axes: Mapping[str, Sequence[str]] | None = None,
    keeps_dtype: bool = True,
    rerun: str = "",
    raise_error: bool = True,
) -> CheckResult:
    """Check the gradients of `fn` with respect to every element of every float input.

    fn: takes as many Tensors as there are inputs, returns one Tensor, any shape.
    inputs: float64 arrays or Tensors; arrays of integers or booleans are passed on and not differentiated. If they
        lie on a GPU, so do those that fn gets.
    mode: 'elements' looks at each, which takes 4 calls of fn for each number; 'directions' looks along 8 random
        directions of each input and, where one is wrong, tells in which slices. For inputs of thousands of numbers.
    seed: of the random upstream gradient and directions. h: the step of the central differences.
    rtol, atol: |backward - numeric| <= atol + rtol * the larger of the two is accepted; a thousandth of that where
        the complex step works: for an analytic fn without casts to real.
    axes: the names of the axes for the report, by the name of an argument of fn, e.g. {"w": ("kh", "kw", "c_in",
        "c_out")}, "y" for the output. By default four axes are those of a picture, (n, h, w, c).
    keeps_dtype: False for a function that casts on purpose: then float32 is not tried.
    rerun: what the report gives as the way to repeat the check.

    Checked as well (`problems_of`, `dtype_problems`): the same call gives the same result (dropout's masks are
    frozen meanwhile), inputs and gy are left as they were and need not be contiguous, a gy of zeros gives zeros,
    gradients are linear in gy and have the shape and dtype of their inputs.

    Raises GradientError (unless raise_error=False: then look at the result), TypeError for inputs or an output
    that are not float64, ValueError for an unknown mode, and for inputs or an output that are not finite.
    """
    if mode not in ("elements", "directions"):
        raise ValueError(f"gradcheck: mode is {mode!r}; it must be 'elements' or 'directions'")
    fn, inputs = on_cpu(fn, inputs)
    rerun = rerun or f"gradcheck(fn, inputs, seed={seed}{'' if mode == 'elements' else f', mode={mode!r}'})"
    arrays = float64_inputs(inputs)
    output = output_of(fn, arrays)
    check_finite(output, arrays)
    gy = random_gradient(output.shape, seed)
    if not np.array_equal(output_of(fn, arrays), output):
        return _conclude(CheckResult([], gy, [NOT_A_FUNCTION], rerun), raise_error)

    labels, given = argument_names(fn, len(arrays)), dict(axes or {})
    every_axes = [_axes(label, a.ndim, given) for label, a in zip(labels, arrays)]
    subject = _Subject(fn, arrays, labels, every_axes, output, gy, _axes("y", gy.ndim, given), seed, h, rtol, atol)
    gradients, misshapen, problems = _gradients_and_problems(subject)
    if keeps_dtype and not misshapen:
        problems += dtype_problems(functools.partial(output_and_gradients, fn), arrays, gy)
    if mode == "directions":
        checks = [_check_along_directions(subject, i, g) for i, g in gradients.items()]
    else:
        checks, reports = _check_elements(subject, gradients, misshapen)
        problems += reports
    # The report is computed when it is read, with the kernels and the backend that are in use now.
    shrink = functools.partial(contextvars.copy_context().run, _smallest_failing, subject)
    return _conclude(CheckResult(checks, gy, problems, rerun, shrink), raise_error)


def gradgradcheck(fn: Callable[..., Tensor], inputs: Sequence[Any], **options: Any) -> list[CheckResult]:
    """Check the second derivatives of `fn`: gradcheck of its gradients as functions of the inputs and of gy.

    Arguments and errors as in `gradcheck`. Returns one result for each float input; the last input of each is gy.
    """
    fn, inputs = on_cpu(fn, inputs)
    arrays = float64_inputs(inputs)
    # Not the gy that gradcheck will draw.
    gy = random_gradient(output_of(fn, arrays).shape, seed=options.get("seed", 0) + 1)

    def gradient_of(i: int) -> Callable[..., Tensor]:
        def gradient(*tensors: Tensor) -> Tensor:
            *xs, g = tensors
            return grad(fn(*xs), xs[i], g, create_graph=True)

        return gradient

    once_more = f"gradgradcheck(fn, inputs, seed={options.get('seed', 0)})"
    return [
        gradcheck(gradient_of(i), [*arrays, gy], **{"rerun": f"{once_more}, gradient of input {i}", **options})
        for i, array in enumerate(arrays)
        if array.dtype.kind == "f"
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
        exact = Derivative(np.tensordot(jacobian, gy, axes=gy.ndim), np.zeros(array.shape))
        checks.append(
            InputCheck(
                f"array {i}",
                np.asarray(analytic),
                exact.value,
                exact.error_bar,
                tolerance=np.full(array.shape, rtol * np.max(np.abs(exact.value), initial=0.0)),
                method="complex step",
                context=Context(gy=gy, jacobian=jacobian, known=known),
            )
        )
    return _conclude(CheckResult(checks, gy), raise_error)


def random_gradient(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Of random sign and between 0.5 and 1.5 in size: no output hides behind a factor near zero."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.5, 1.5, size=shape)


# ---------------------------------------------------------------------------------------- the steps of gradcheck
Gradients = dict[int, np.ndarray]  # by the number of the input


def _gradients_and_problems(subject: _Subject) -> tuple[Gradients, Gradients, list[str]]:
    """What backward gives: (gradients, gradients of a wrong shape, everything else that is wrong in sentences)."""
    arrays, gy = subject.arrays, subject.gy
    run = functools.partial(output_and_gradients, subject.fn)
    try:
        gradients = run([a.copy() for a in arrays], gy.copy())[1]
    except RuntimeError as refusal:
        refused = refused_gradients(subject.fn, arrays, gy)
        if refused is None:
            raise
        return *refused, [str(refusal)]
    return gradients, {}, problems_of(run, arrays, gy, subject.output, gradients)


def _check_elements(
    subject: _Subject, gradients: Gradients, misshapen: Gradients
) -> tuple[list[InputCheck], list[str]]:
    """(one InputCheck for each gradient, the reports on gradients of a wrong shape)."""
    arrays, names, gy = subject.arrays, subject.names, subject.gy
    functions = {i: subject.function_of(i) for i in sorted(gradients | misshapen)}
    numeric = {i: central_differences(f, arrays[i], gy, h=subject.h) for i, f in functions.items()}
    exact = {i: refined(f, arrays[i], gy, numeric[i]) for i, f in functions.items()}
    known = {names[i]: arrays[i] for i in functions} | {"gy": gy, "the output": subject.output}

    checks = []
    for i, g in gradients.items():
        best = exact[i] or numeric[i]
        others = mistakes.alternatives(subject.run, arrays, names, subject.axes, i, g, gy, numeric)
        checks.append(
            InputCheck(
                f"input {i}",
                g,
                best.value,
                best.error_bar,
                (EXACT if exact[i] else 1.0) * subject.tolerance(g, best.value),
                subject.labels[i],
                "complex step" if exact[i] else "central differences",
                Context(subject.axes[i], gy, subject.gy_axes, best.jacobian, known, others),
            )
        )
    reports = [
        str(explain(g, numeric[i].value, name=f"the gradient of {names[i]}", axes=subject.axes[i]))
        for i, g in misshapen.items()
    ]
    return checks, reports


def _check_along_directions(subject: _Subject, i: int, gradient: np.ndarray) -> InputCheck:
    """Random directions of input i and, if one fails, the slices that it fails in."""
    directions = random_directions(subject.arrays[i].shape, subject.seed)
    check = functools.partial(_compare_along, subject, i, gradient)
    result = check(directions)
    if not result.wrong:
        return result
    failing = directions[int(np.argmax(result.is_wrong))]
    note = wrong_slices(lambda part: check([part]).wrong > 0, failing, subject.axes[i])
    return dataclasses.replace(result, note=note)


def _compare_along(subject: _Subject, i: int, gradient: np.ndarray, directions: Sequence[np.ndarray]) -> InputCheck:
    """One InputCheck whose elements are the derivatives along these directions of input i."""
    found = along(subject.function_of(i), subject.arrays[i], subject.gy, directions, subject.h)
    analytic = np.array([float(np.sum(gradient * v)) for v in directions])
    # A sum of many terms of both signs: the tolerance is relative to their sizes, not to what is left of them.
    sizes = np.array([float(np.sqrt(np.sum((gradient * v) ** 2))) for v in directions])
    tolerance = subject.tolerance(np.maximum(np.abs(analytic), sizes), found.value)
    name = f"input {i} along {len(directions)} random directions"
    return InputCheck(name, analytic, found.value, found.error_bar, tolerance, subject.labels[i])


def _smallest_failing(subject: _Subject) -> str | None:
    """The smallest case in which a gradient is wrong, in words; None where random directions see nothing wrong."""

    def fails(arrays: list[np.ndarray]) -> bool:
        try:
            output = subject.run(arrays)
            gy = random_gradient(output.shape, subject.seed)
            smaller = dataclasses.replace(subject, arrays=arrays, output=output, gy=gy)
            gradients = output_and_gradients(subject.fn, [a.copy() for a in arrays], gy.copy())[1]
        except Exception:  # shapes that fn refuses
            return False
        directions = {i: random_directions(g.shape, subject.seed)[:2] for i, g in gradients.items()}
        return any(_compare_along(smaller, i, g, directions[i]).wrong for i, g in gradients.items())

    if not fails(subject.arrays):
        return None
    return f"the smallest case that still fails: {described(smallest(fails, subject.arrays), subject.names)}"


def _axes(label: str, ndim: int, given: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The names of the axes of an argument: those given, or the usual ones."""
    return given.get(label) or usual_axes(label, ndim) or default_axes(ndim)


def _conclude(result: CheckResult, raise_error: bool) -> CheckResult:
    if raise_error and not result.passed:
        raise GradientError(result)
    return result
