"""gradcheck and gradgradcheck: compare gradients element by element.

Every check multiplies the output by a *random* upstream gradient gy and looks at *all* elements. An upstream gradient
of ones cannot see swapped axes of gy, a gy that is ignored, or a softmax that returns zeros.

An element is
    ok             if |backward - numeric| <= tolerance
    inconclusive   if the difference lies within the error bar of the numerical derivative (a kink is near)
    wrong          otherwise.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...engine.tensor import Tensor, grad
from . import mistakes
from .call import (
    Gradients,
    argument_names,
    check_finite,
    float64_inputs,
    on_cpu,
    output_and_gradients,
    output_of,
    random_gradient,
    refused_gradients,
    usual_axes,
)
from .directions import along, random_directions, wrong_slices
from .explain import explain
from .invariants import dtype_problems, problems_of
from .numeric import Derivative, central_differences, refined
from .result import CheckResult, InputCheck, concluded
from .shrink import described, smallest
from .where import default_axes

# The complex step is exact, so the tolerance for it is multiplied by this factor.
EXACT = 1e-3
# Two formulas for one gradient may differ by so much of its largest value.
RECORDED = 1e-10

NOT_A_FUNCTION = (
    "the same call gave another result: fn is not a function of its inputs alone. It is random (draw outside of fn; "
    "tinynet's own dropout is frozen here), or remembers something from call to call"
)


@dataclass(frozen=True)
class _Subject:
    """The arguments of `gradcheck`, and what follows from them."""

    fn: Callable[..., Tensor]
    arrays: list[np.ndarray]
    labels: list[str]  # of the inputs; '' if fn does not tell
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

    fn: takes as many Tensors as there are inputs, returns one Tensor of any shape.
    inputs: float64 arrays or Tensors. Arrays of integers or booleans are passed on and not differentiated. If the
        inputs lie on a GPU, fn gets Tensors on the GPU.
    mode: 'elements' checks each element, with 4 calls of fn for each; 'directions' checks 8 random directions of each
        input and, if one is wrong, names the slices in which it is wrong. For inputs of thousands of elements.
    seed: of the random upstream gradient and directions. h: the step of the central differences.
    rtol, atol: |backward - numeric| <= atol + rtol * the larger of the two is accepted; a thousandth of that if the
        complex step works, which needs an analytic fn without casts to real.
    axes: the names of the axes for the report, by the name of an argument of fn, e.g. {"w": ("kh", "kw", "c_in",
        "c_out")}, "y" for the output. By default four axes are those of images, (n, h, w, c).
    keeps_dtype: False for a function that casts on purpose: then float32 is not tried.
    rerun: the command that the report names to repeat the check.

    These are checked as well (`problems_of`, `dtype_problems`): the same call gives the same result (dropout masks are
    frozen meanwhile), inputs and gy stay unchanged and need not be contiguous, a gy of zeros gives zeros, gradients
    are linear in gy and have the shape and dtype of their inputs.

    Raises GradientError (unless raise_error=False: then look at the result), TypeError if an input or the output is
    not float64, ValueError for an unknown mode, and if an input or the output is not finite.
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
        return concluded(CheckResult([], gy, [NOT_A_FUNCTION], rerun), raise_error)

    def axes_of(label: str, ndim: int) -> Sequence[str]:
        return (axes or {}).get(label) or usual_axes(label, ndim) or default_axes(ndim)

    labels = argument_names(fn, len(arrays))
    every_axes = [axes_of(label, a.ndim) for label, a in zip(labels, arrays)]
    subject = _Subject(fn, arrays, labels, every_axes, output, gy, axes_of("y", gy.ndim), seed, h, rtol, atol)
    gradients, misshapen, problems = _gradients_and_problems(subject)
    if keeps_dtype and not misshapen:
        problems += dtype_problems(functools.partial(output_and_gradients, fn), arrays, gy)
    if mode == "directions":
        checks = [_check_along_directions(subject, i, g) for i, g in gradients.items()]
    else:
        checks, reports = _check_elements(subject, gradients, misshapen)
        problems += reports
    # The report is computed when it is read, with the kernels and the backend that are active now.
    shrink = functools.partial(contextvars.copy_context().run, _smallest_failing, subject)
    return concluded(CheckResult(checks, gy, problems, rerun, shrink), raise_error)


def gradgradcheck(fn: Callable[..., Tensor], inputs: Sequence[Any], **options: Any) -> list[CheckResult]:
    """Check the second derivatives of `fn`: gradcheck of its gradients as functions of the inputs and of gy.

    With create_graph=True a backward may compute the gradient by another formula. So its value is compared, too: it
    must be the gradient of an ordinary backward.

    Arguments and errors as in `gradcheck`. Returns one result for each float input; the last input of each is gy.
    """
    fn, inputs = on_cpu(fn, inputs)
    arrays = float64_inputs(inputs)
    seed = options.get("seed", 0)
    gy = random_gradient(output_of(fn, arrays).shape, seed + 1)  # gradcheck draws another one

    def gradient_of(i: int) -> Callable[..., Tensor]:
        def gradient(*tensors: Tensor) -> Tensor:
            *xs, g = tensors
            return grad(fn(*xs), xs[i], g, create_graph=True)

        return gradient

    results = []
    for i, plain in output_and_gradients(fn, [a.copy() for a in arrays], gy.copy())[1].items():
        rerun = f"gradgradcheck(fn, inputs, seed={seed}), gradient of input {i}"
        given = {"rerun": rerun, **options, "raise_error": False}
        result = gradcheck(gradient_of(i), [*arrays, gy], **given)
        name = f"the gradient of input {i} with create_graph=True, compared with the ordinary one,"
        recorded = output_of(gradient_of(i), [*arrays, gy])
        compared = explain(recorded, plain, tolerance=RECORDED * float(np.max(np.abs(plain), initial=0.0)), name=name)
        if not compared:
            result = replace(result, problems=[str(compared), *result.problems])
        results.append(concluded(result, options.get("raise_error", True)))
    return results


# ---------------------------------------------------------------------------------------- the steps of gradcheck
def _gradients_and_problems(subject: _Subject) -> tuple[Gradients, Gradients, list[str]]:
    """(the gradients that backward returns, gradients of a wrong shape, everything else that is wrong)."""
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
    known = {names[i]: arrays[i] for i in functions} | {"gy": gy, "the output": subject.output}

    checks = []
    for i, g in gradients.items():
        exact = refined(functions[i], arrays[i], gy, numeric[i])
        best: Derivative = exact or numeric[i]
        context = {
            "axes": subject.axes[i],
            "gy": gy,
            "gy_axes": subject.gy_axes,
            "jacobian": best.jacobian,
            "known": known,
            "alternatives": mistakes.alternatives(subject.run, arrays, names, subject.axes, i, g, gy, numeric),
        }
        tolerance = (EXACT if exact else 1.0) * subject.tolerance(g, best.value)
        method = "complex step" if exact else "central differences"
        compared = (g, best.value, best.error_bar, tolerance)
        checks.append(InputCheck(f"input {i}", *compared, subject.labels[i], method, context, kink=best.kink))
    reports = [
        str(explain(g, numeric[i].value, name=f"the gradient of {names[i]}", axes=subject.axes[i]))
        for i, g in misshapen.items()
    ]
    return checks, reports


def _check_along_directions(subject: _Subject, i: int, gradient: np.ndarray) -> InputCheck:
    """Random directions of input i and, if one fails, the slices in which it fails."""
    directions = random_directions(subject.arrays[i].shape, subject.seed)
    check = functools.partial(_compare_along, subject, i, gradient)
    result = check(directions)
    if not result.wrong:
        return result
    failing = directions[int(np.argmax(result.is_wrong))]
    return replace(result, note=wrong_slices(lambda part: check([part]).wrong > 0, failing, subject.axes[i]))


def _compare_along(subject: _Subject, i: int, gradient: np.ndarray, directions: Sequence[np.ndarray]) -> InputCheck:
    """One InputCheck whose elements are the derivatives along these directions of input i."""
    found = along(subject.function_of(i), subject.arrays[i], subject.gy, directions, subject.h)
    products = [gradient * v for v in directions]
    analytic = np.array([float(np.sum(p)) for p in products])
    # The terms of the sum have both signs and partly cancel: the tolerance is relative to their sizes, not to the sum.
    sizes = np.array([float(np.linalg.norm(p)) for p in products])
    tolerance = subject.tolerance(np.maximum(np.abs(analytic), sizes), found.value)
    name = f"input {i} along {len(directions)} random directions"
    return InputCheck(name, analytic, found.value, found.error_bar, tolerance, subject.labels[i])


def _smallest_failing(subject: _Subject) -> str | None:
    """The smallest case with a wrong gradient, in words; None if random directions find nothing wrong."""

    def fails(arrays: list[np.ndarray]) -> bool:
        try:
            output = subject.run(arrays)
            gy = random_gradient(output.shape, subject.seed)
            smaller = replace(subject, arrays=arrays, output=output, gy=gy)
            gradients = output_and_gradients(subject.fn, [a.copy() for a in arrays], gy.copy())[1]
        except Exception:  # fn does not accept these shapes
            return False
        directions = {i: random_directions(g.shape, subject.seed)[:2] for i, g in gradients.items()}
        return any(_compare_along(smaller, i, g, directions[i]).wrong for i, g in gradients.items())

    if not fails(subject.arrays):
        return None
    return f"the smallest case that still fails: {described(smallest(fails, subject.arrays), subject.names)}"
