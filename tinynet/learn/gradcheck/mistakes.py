"""Mistakes that are found by calling the function again: a right gradient, but with another array as an input."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from .numeric import Derivative, central_differences
from .pair import Pair
from .patterns import flipped, shifted, transposed


def alternatives(
    run: Callable[[Sequence[np.ndarray]], np.ndarray],
    arrays: Sequence[np.ndarray],
    names: Sequence[str],
    axes: Sequence[Sequence[str]],
    i: int,
    gradient: np.ndarray,
    gy: np.ndarray,
    numeric: Mapping[int, Derivative],
) -> dict[str, Callable[[], np.ndarray | None]]:
    """Sentence -> function that computes what that mistake gives for input i, or None if it is not `gradient`.

    run: computes the output from the arrays. names, axes: of the inputs. gradient: what backward returned. numeric: the
    derivatives by input number. The functions run with the kernels and the backend that are active now.
    """
    found: dict[str, Callable[[], np.ndarray | None]] = {}
    for j, derivative in numeric.items():
        if j != i and arrays[j].shape == arrays[i].shape:
            found[f"it is the gradient of {names[j]}"] = functools.partial(np.array, derivative.value)
    for sentence, replaced in _replacements(run, arrays, names, axes, i, numeric):
        compute = functools.partial(_gradient_there, run, replaced, i, gradient, gy)
        found[sentence] = functools.partial(contextvars.copy_context().run, compute)
    return found


def _replacements(
    run: Callable, arrays: Sequence[np.ndarray], names: Sequence[str], axes: Sequence[Sequence[str]], i: int, others
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """(sentence, the inputs with one of them replaced)."""

    def with_other(j: int, array: np.ndarray) -> list[np.ndarray]:
        return [*arrays[:j], array, *arrays[j + 1 :]]

    output = run(arrays)
    if output.shape == arrays[i].shape:
        yield f"the derivative is taken at the output instead of at {names[i]}", with_other(i, output)
    for j in others:
        if j == i:
            continue
        a = arrays[j]
        yield f"{names[j]} is taken as 1", with_other(j, np.ones_like(a))
        view = Pair(a, a, np.zeros(a.shape), axes[j])
        for sentence, moved in chain(flipped(view), transposed(view), shifted(view)):
            sentence = sentence.replace("it is", f"{names[j]} is").replace("axes", f"the axes of {names[j]}:", 1)
            yield sentence, with_other(j, np.ascontiguousarray(moved))


def _gradient_there(
    run: Callable, arrays: Sequence[np.ndarray], i: int, gradient: np.ndarray, gy: np.ndarray
) -> np.ndarray | None:
    """The numerical gradient for input i at these arrays; None if it differs from `gradient` in a random direction."""

    def along(x: np.ndarray) -> np.ndarray:
        return run([*arrays[:i], x, *arrays[i + 1 :]])

    direction = np.random.default_rng(0).uniform(-1.0, 1.0, size=arrays[i].shape)
    try:
        derivative = central_differences(lambda t: along(arrays[i] + t * direction), np.array(0.0), gy)
        expected = float(np.sum(gradient * direction))
        if not abs(derivative.value - expected) <= 1e-5 * abs(expected) + derivative.error_bar:
            return None
        return central_differences(along, arrays[i], gy).value
    except Exception:  # fn may refuse the other array
        return None
