"""Compares the kernels of a tier with the reference, over the cases of an op, in the dtype that really runs.

The second link in the chain: the reference is checked by derivatives (`gradcheck`), the fast kernels by the reference.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends.devices import to_device
from ...backends.registry import implementation_kernel, implementations, kernel_names, op_part, use_backend
from ...ops._shared.case import Case, map_arrays
from .explain import Explanation, explain, jacobian_of
from .outcome import Outcome

# A Jacobian of up to so many elements is computed for the search, with one call of the reference for each gy element.
LARGEST_GY, LARGEST_JACOBIAN = 600, 2**20


@dataclass(frozen=True, repr=False)
class KernelCheck(Outcome):
    """One kernel by one implementation, over all cases.

    error: the largest difference over the largest value (at least 1), in the case that comes nearest to its limit.
    allowed: the limit in that case. cases: how many there are. wrong: the labels of the cases in which the kernel is
    wrong. explanation: of the smallest of these; None if all are right.
    """

    op: str
    kernel: str
    tier: str
    implementation: str
    dtype: str
    cases: int
    error: float
    allowed: float
    wrong: tuple[str, ...]
    explanation: Explanation | None

    @property
    def passed(self) -> bool:
        """True if the kernel agrees with the reference in every case."""
        return not self.wrong

    def __str__(self) -> str:
        what = f"{self.op}.{self.kernel} ({self.tier}, {self.implementation}, {self.dtype})"
        if self.passed:
            return f"{what}: right in {self.cases} cases, error {self.error:.1g} (allowed: {self.allowed:.1g})"
        return f"{what}: wrong in {len(self.wrong)} of {self.cases} cases: {'; '.join(self.wrong)}\n{self.explanation}"


def compare_tiers(
    op: str, tier: str, implementation: str | None = None, *, dtype: str = "float32", seed: int = 7
) -> list[KernelCheck]:
    """Compare every kernel of an op in a tier with the reference, which computes in float64.

    implementation: a name of the tier, by default the tier's default. dtype: of the arrays, 'float32' or 'float64'.
    seed: of the random values in the cases. The accepted difference is 8 rounding errors times the square root of the
    number of summed terms, relative to the largest value. Arrays that a kernel changes in place are compared as well.

    Returns one KernelCheck for each kernel. Raises BackendError, with what is missing, if the tier cannot run.
    """
    implementation = implementation or implementations(op, tier)[0]
    with use_backend(tier), every_access_checked(tier):
        cases = cases_of(op, seed)
        return [check_kernel(op, name, tier, implementation, dtype, cases) for name in kernel_names(op)]


def cases_of(op: str, seed: int = 7, large: bool = True) -> list[Case]:
    """The cases of an op, with values drawn from this seed. large=False: only the cases for gradient checks."""
    return op_part(op, "cases").cases(np.random.default_rng(seed), large=large)


def rounding(dtype: str, implementation: str | None) -> float:
    """The relative error of a product: of the dtype, or of tensor cores, which drop bits of float32 factors."""
    return 2.0**-10 if implementation == "tf32" and dtype == "float32" else float(np.finfo(dtype).eps)


def check_kernel(
    op: str,
    name: str,
    tier: str,
    implementation: str,
    dtype: str,
    cases: Sequence[Case],
    against: str = "reference",
) -> KernelCheck:
    """Compare one kernel with the kernel of the tier `against`, which computes in float64, in the cases that call it.

    Arguments and errors as in `compare_tiers`. Raises ValueError if no case calls the kernel.
    """
    called = [case for case in cases if name in case.calls]
    function, right = implementation_kernel(op, name, tier, implementation), implementation_kernel(op, name, against)
    figures: list[tuple[float, float]] = []
    wrong: dict[str, tuple[Case, np.ndarray, np.ndarray, float]] = {}
    for case in called:
        allowed = 8 * rounding(dtype, implementation) * max(1.0, case.terms**0.5)
        for actual, expected in _results(function, right, name, tier, dtype, case):
            error, limit = _error(actual, expected, allowed)
            figures.append((error, limit))
            if error > limit:
                wrong.setdefault(case.label, (case, actual, expected, limit))
    nearest = max(figures, key=lambda figure: figure[0] / figure[1])
    explanation = None
    if wrong:
        smallest = min(wrong.values(), key=lambda found: found[2].size)
        explanation = _explained(right, name, *smallest, titles=("kernel" if tier != "reference" else tier, against))
    return KernelCheck(op, name, tier, implementation, dtype, len(called), *nearest, tuple(wrong), explanation)


def _results(
    function: Any, right: Any, name: str, tier: str, dtype: str, case: Case
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(actual, expected) for each array that a kernel returns or changes in one case."""
    arrays, parameters = case.calls[name]
    device = "cuda" if tier == "cuda" else "cpu"
    moved = map_arrays(lambda a: to_device(a.astype(dtype) if a.dtype.kind == "f" else a.copy(), device), arrays)
    both = ((function, moved), (right, copy.deepcopy(arrays)))
    outcomes = [_outcome(f, own, parameters, case.changed.get(name, 0)) for f, own in both]
    for actual, expected in zip(*outcomes, strict=True):
        yield to_device(actual, "cpu"), expected


def _error(actual: np.ndarray, expected: np.ndarray, allowed: float) -> tuple[float, float]:
    """(the largest difference over the largest value, its limit)."""
    if actual.shape != expected.shape:
        return float("inf"), allowed
    if expected.dtype.kind != "f":  # for example indices
        return float(np.count_nonzero(actual != expected)), 0.5
    with np.errstate(invalid="ignore"):
        difference = np.nan_to_num(np.abs(actual - expected), nan=np.inf)
    return float(np.max(difference, initial=0.0) / np.max(np.abs(expected), initial=1.0)), allowed


def _outcome(function: Any, arrays: tuple, parameters: dict[str, Any], changed: int) -> list[Any]:
    """What a kernel returns, followed by the arrays that it changes in place: the first `changed`."""
    returned = function(*arrays, **parameters)
    found = list(returned) if isinstance(returned, tuple) else [] if returned is None else [returned]
    map_arrays(found.append, arrays[:changed])
    return found


def _explained(
    right: Any,
    name: str,
    case: Case,
    actual: np.ndarray,
    expected: np.ndarray,
    allowed: float,
    titles: tuple[str, str],
) -> Explanation:
    """The report on one case; for a kernel that takes gy, with the Jacobian of `right`, the kernel that is right."""
    arrays, parameters = case.calls[name]
    names = list(inspect.signature(right).parameters)[: len(arrays)]
    known = {n: a for n, a in zip(names, arrays) if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
    gy, jacobian = known.get("gy"), None
    if gy is not None and gy.size <= LARGEST_GY and gy.size * expected.size <= LARGEST_JACOBIAN:

        def backward(unit: np.ndarray) -> np.ndarray:
            return right(*(unit if n == "gy" else a for n, a in zip(names, arrays)), **parameters)

        jacobian = jacobian_of(backward, gy.shape)
    images = ("n", "h", "w", "c")
    axes = ("kh", "kw", "axis 2", "axis 3") if name == "backward_weight" else images
    return explain(
        actual,
        expected,
        axes=axes if expected.ndim == 4 else None,
        tolerance=allowed * float(np.max(np.abs(expected), initial=1.0)),
        gy=gy,
        gy_axes=images if gy is not None and gy.ndim == 4 else None,
        jacobian=jacobian,
        known=known,
        name=f"case '{case.label}'",
        titles=titles,
    )


def every_access_checked(tier: str) -> contextlib.AbstractContextManager:
    """Inside `with`, the emulator checks every memory access and runs threads in reversed order; else nothing."""
    if tier != "cuda-sim":
        return contextlib.nullcontext()
    from ...backends.cusim import checked

    return checked(order="reversed")
