"""The adjoint test: is backward the transpose of a linear forward? At full size, in the dtype and on the device in use.

If y = J x, backward computes J' g, and for any values

    <J x, g> = <x, J' g>

Nothing is perturbed, so no digits are lost in differences: float32 is enough, on any device, for arrays of millions of
elements. A random g alone is nearly blind to a wrong scale, because <J x, g> is then a sum that nearly cancels;
g = J x + noise is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...backends.devices import to_device
from ...engine import random
from ...engine.tensor import Tensor, grad
from .call import argument_names, usual_axes
from .directions import wrong_slices
from .outcome import Outcome
from .where import default_axes

# Rounding errors of the terms are independent and mostly cancel in the products; a lost border row does not.
ALLOWED = 32  # in units of the dtype's epsilon


@dataclass(frozen=True, repr=False)
class AdjointCheck(Outcome):
    """The outcome for one input.

    gap: |<J x, g> - <x, J' g>| / (|J x| |g|). allowed: its limit. where: the slices of the input that are wrong, in
    words; empty if the test passed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    gap: float
    allowed: float
    where: str = ""

    @property
    def passed(self) -> bool:
        """True if the two products agree."""
        return self.gap <= self.allowed

    def __str__(self) -> str:
        text = f"{self.name}, shape {self.shape}, {self.dtype}: <Jx, g> and <x, J'g> differ by {self.gap:.1g}"
        if self.passed:
            return f"{text} of |Jx| |g|; right (allowed: {self.allowed:.1g})"
        reason = f"of |Jx| |g|, allowed is {self.allowed:.1g}: backward is not the transpose of forward"
        return f"{text} {reason}\n  {self.where}"


class AdjointError(AssertionError):
    """A backward is not the transpose of its forward. `results` are the AdjointChecks of all inputs."""

    def __init__(self, results: Sequence[AdjointCheck]) -> None:
        super().__init__("\n".join(map(str, results)))
        self.results = results


def adjoint_check(
    fn: Callable[..., Tensor],
    inputs: Sequence[Any],
    *,
    seed: int = 0,
    allowed: float | None = None,
    raise_error: bool = True,
) -> list[AdjointCheck]:
    """Check the gradients of `fn` for every input in which it is linear, or linear plus a constant such as a bias.

    fn: takes as many Tensors as there are inputs, returns one Tensor. inputs: arrays or Tensors of float32 or float64,
    on any device, of any size; arrays of other dtypes are passed on. seed: of the noise. allowed: the largest gap, by
    default 32 epsilons of the dtype.

    Returns one result for each input in which fn is linear. Raises AdjointError if a backward is not the transpose
    (unless raise_error=False), ValueError if fn is linear in no input.
    """
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
    results = []
    with random.frozen():
        for i, (x, label) in enumerate(zip(arrays, argument_names(fn, len(arrays)))):
            if x.dtype.kind != "f":
                continue
            limit = ALLOWED * float(np.finfo(x.dtype).eps) if allowed is None else allowed
            gap, where = _gap_and_place(_LinearPart(fn, arrays, i), x, label, seed, limit)
            if gap is not None:
                name = f"input {i} ({label})" if label else f"input {i}"
                results.append(AdjointCheck(name, x.shape, str(x.dtype), gap, limit, where))
    if not results:
        raise ValueError(
            "adjoint_check: fn is linear in none of its inputs; use gradcheck(fn, inputs, mode='directions')"
        )
    if raise_error and not all(results):
        raise AdjointError(results)
    return results


class _LinearPart:
    """x -> fn(..., x, ...) - fn(..., 0, ...), and its transpose as backward computes it."""

    def __init__(self, fn: Callable[..., Tensor], arrays: Sequence[Any], i: int) -> None:
        self.fn, self.arrays, self.i = fn, arrays, i
        self.constant = self._call(array_module(arrays[i]).zeros_like(arrays[i])).data

    def __call__(self, x: Any) -> Any:
        return self._call(x).data - self.constant

    def transposed(self, x: Any, g: Any) -> Any:
        """The gradient of <fn(x), g>."""
        leaf = Tensor(x, requires_grad=True)
        out = self._call(leaf)
        return grad(out, leaf, g).data if out.requires_grad else array_module(x).zeros_like(x)

    def _call(self, x: Any) -> Tensor:
        inputs = (*self.arrays[: self.i], x, *self.arrays[self.i + 1 :])
        return self.fn(*(a if isinstance(a, Tensor) else Tensor(a) for a in inputs))


def _gap_and_place(J: _LinearPart, x: Any, label: str, seed: int, allowed: float) -> tuple[float | None, str]:
    """(the gap for one input, the wrong slices in words); the gap is None if fn is not linear in this input."""
    rng = np.random.default_rng(seed)

    def noise(like: Any) -> Any:
        device = "cpu" if array_module(like) is np else "cuda"
        return to_device(rng.standard_normal(like.shape).astype(like.dtype), device)

    y, z = J(x), noise(x)
    unit = float(np.finfo(x.dtype).eps)
    combined = J(z) - 2 * y
    if _norm(J(z - 2 * x) - combined) > 1e4 * unit * (_norm(combined) + _norm(J.constant)):
        return None, ""
    size = _norm(y) / max(1.0, y.size**0.5)
    g = y + size * noise(y) if size else noise(y)
    gradient = J.transposed(x, g)

    def gap(part: Any) -> float:
        image = J(part)
        scale = (_norm(image) + _norm(J.constant)) * _norm(g)
        return abs(_inner(image, g) - _inner(part, gradient)) / scale if scale else _norm(gradient)

    found = gap(x)
    axes = usual_axes(label, x.ndim) or default_axes(x.ndim)
    return found, wrong_slices(lambda part: gap(part) > allowed, x, axes) if found > allowed else ""


def _inner(a: Any, b: Any) -> float:
    """The inner product, in float64 for any dtype: the test is of the kernels, not of this sum."""
    return float((a.astype(np.float64) * b.astype(np.float64)).sum())


def _norm(a: Any) -> float:
    return _inner(a, a) ** 0.5
