"""Numerical derivatives: central differences that know how far they can be trusted, and the complex step.

**Central differences.** For a smooth f and a small step h

    D(h) = (f(x + h) - f(x - h)) / 2h = f' + h^2 f'''/6 + O(h^4)

Halving the step divides the error by four, so the h^2 term can be eliminated (Richardson extrapolation):

    R = (4 D(h/2) - D(h)) / 3 = f' + O(h^4)

and |D(h) - D(h/2)| says how large the eliminated term was. Next to a kink (ReLU at 0, a tie of a maximum) the
two D disagree by far more, unless x is exactly *on* the kink: there both D are the mean of the left and the
right derivative. The difference between the right and the left derivative detects that case:

    S(h) = (f(x + h) - 2 f(x) + f(x - h)) / h = h f'' + O(h^3)

It halves with the step if f is smooth, and stays the same on a kink. The error bar is therefore

    |D(h) - D(h/2)| + |S(h) - 2 S(h/2)|

and a kink within h of x cannot make both terms vanish. If the derivatives differ by 1 at distance d < h, the error of R
is at most 2/3 of the bar. Rounding adds eps times the outputs that changed over the step.

Where the bar is wide, a smaller step is tried as well, h |x| or a thousandth of h: 1/x at x = 1e-6 needs it, and a
kink nearby then lies outside of the step. The derivative with the narrower bar is taken. If S grows when the step is
halved, the step reaches over a pole, and nothing is known: the bar is infinite.

**Complex step** (Squire and Trapp, Using complex variables to estimate derivatives of real functions, SIAM
Review 40, 1998). If f is analytic, f(x + ih) = f(x) + ih f'(x) + O(h^2), so f' = Im f(x + ih) / h. Nothing is
subtracted, so nothing cancels: h can be 1e-200 and the derivative is as exact as f itself. But code that takes an
absolute value or casts to real drops the imaginary part silently, and at a kink only one side is seen. So `refined`
takes the complex step only if the differences confirm it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...backends.arrays import takes_complex
from ...backends.context import set_inside


class Derivative(NamedTuple):
    """d(sum(gy * y))/dx for every element of x, with an error bar; both float64 of the shape of x.

    jacobian: dy/dx for all outputs, of the shape of x + the shape of gy; None if it would be too large to keep.
    kink: bool, where the bar is wide because left and right derivative differ; None if that was not looked at.
    """

    value: np.ndarray
    error_bar: np.ndarray
    jacobian: np.ndarray | None = None
    kink: np.ndarray | None = None


LARGEST_JACOBIAN = 2**21  # elements: 16 MiB
WIDE = 1e-6  # of the derivative: with a wider bar, a second step is tried


def central_differences(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, gy: np.ndarray, *, h: float = 2.0**-13
) -> Derivative:
    """The gradient of sum(gy * f(x)) with respect to x, one element at a time (4 calls of f for each).

    f: from a float64 array of the shape of x to an array of the shape of gy. It may return a view of x.
    h: the step, for elements |x| <= 1; larger elements take h * |x|, and smaller ones where the bar is wide.
    """
    x = np.array(x, dtype=np.float64, order="K")  # a copy, which is changed below
    center = np.array(f(x))
    value, error_bar, kink = np.empty(x.shape), np.empty(x.shape), np.zeros(x.shape, bool)
    jacobian = np.empty((*x.shape, *gy.shape)) if x.size * gy.size <= LARGEST_JACOBIAN else None
    for index in np.ndindex(x.shape):
        size = abs(float(x[index]))
        found = _derivative(f, x, index, h * max(1.0, size), center, gy)
        if not found.error_bar <= WIDE * abs(found.value):
            nearer = _derivative(f, x, index, h * (size if 0 < size < 1 else max(1.0, size) / 1024), center, gy)
            if nearer.error_bar <= WIDE * abs(nearer.value) or not found.error_bar <= nearer.error_bar:
                found = nearer
        value[index], error_bar[index], kink[index] = found.value, found.error_bar, found.kink
        if jacobian is not None:
            jacobian[index] = found.jacobian
    return Derivative(value, error_bar, jacobian, kink)


def _derivative(
    f: Callable, x: np.ndarray, index: tuple[int, ...], step: float, center: np.ndarray, gy: np.ndarray
) -> Derivative:
    """The derivative with respect to x[index] alone."""
    D_h, S_h, rounding = _slopes(f, x, index, step, center)
    D_half, S_half, _ = _slopes(f, x, index, step / 2, center)
    slopes = (4 * D_half - D_h) / 3
    # gy is applied last and the bar adds up absolute values: kinks of several outputs must not cancel.
    weights = np.abs(gy)
    curved, kinked, rounded = (
        float(np.sum(weights * part)) for part in (np.abs(D_h - D_half), np.abs(S_h - 2 * S_half), 4 * rounding)
    )
    # If the step is halved, S stays the same or decreases at a kink; it halves if f is smooth, and grows at a pole.
    grows = np.sum(weights * np.abs(S_half)) > 1.2 * np.sum(weights * np.abs(S_h))
    is_kink = np.asarray(kinked > max(curved, rounded) / 4 and not grows)
    bar = np.inf if grows and kinked > 4 * rounded else curved + kinked + rounded  # a pole within the step
    return Derivative(np.sum(gy * slopes), np.asarray(bar), slopes, is_kink)


def refined(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, gy: np.ndarray, found: Derivative
) -> Derivative | None:
    """The gradient by the complex step, if `found`, by differences, confirms it; None if f does not allow it.

    An element with a wide error bar may lie on a kink: it keeps the difference and its bar.
    """
    scale = float(np.max(np.abs(found.value[np.isfinite(found.value)]), initial=0.0))
    smooth = found.error_bar <= 1e-4 * scale
    value, error_bar = found.value.copy(), found.error_bar.copy()
    jacobian = None if found.jacobian is None else found.jacobian.copy()
    for index in map(tuple, np.argwhere(smooth)):
        direction = np.zeros(x.shape)
        direction[index] = 1.0
        try:
            with warnings.catch_warnings(), set_inside(takes_complex, True):
                warnings.simplefilter("ignore")  # NumPy's, that an imaginary part is dropped
                slopes = complex_step(f, [x], [direction])
        except Exception:  # f was not written for complex numbers
            return None
        value[index], error_bar[index] = np.sum(gy * slopes), 0.0
        if jacobian is not None:
            jacobian[index] = slopes
    if not smooth.any() or not (np.abs(value - found.value) <= found.error_bar + 1e-7 * scale)[smooth].all():
        return None
    return Derivative(value, error_bar, jacobian, found.kink)


def _slopes(
    f: Callable, x: np.ndarray, index: tuple[int, ...], step: float, center: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """D, S and the rounding error of D, for every output and x[index]; x has its old value afterwards."""
    kept = float(x[index])
    right, left = kept + step, kept - step
    # Copies: if f returns a view of x, the first result would change together with x.
    x[index] = right
    above = np.array(f(x))
    x[index] = left
    below = np.array(f(x))
    x[index] = kept
    span = right - left  # 2h after rounding
    with np.errstate(invalid="ignore"):  # inf - inf gives a NaN bar, which the caller handles
        rounding = np.where(above == below, 0.0, np.finfo(float).eps * (np.abs(above) + np.abs(below)) / span)
        return (above - below) / span, (above - 2 * center + below) / (span / 2), rounding


def complex_step(
    f: Callable[..., np.ndarray],
    arrays: Sequence[np.ndarray],
    direction: Sequence[np.ndarray | float],
    *,
    h: float = 1e-200,
) -> np.ndarray:
    """The derivative of f(*arrays) along a direction: d/dt f(arrays + t direction) at t = 0.

    f: an analytic function of plain arrays: no abs, max, comparison or cast to real inside.
    direction: one array (or number) for each of the arrays, 0 for an array that stays fixed.
    Returns float64 of the shape of f's result, exact except for rounding (2e-16 relative).
    Raises TypeError if f drops the imaginary part.
    """
    y = f(*(np.asarray(a) + 1j * h * np.asarray(d) for a, d in zip(arrays, direction)))
    if not np.iscomplexobj(y):
        raise TypeError(
            f"complex_step: f returned {np.asarray(y).dtype} from complex arrays, so its derivative is lost; "
            "it must allocate with the dtype of its arguments and use analytic functions only"
        )
    return np.imag(y) / h
