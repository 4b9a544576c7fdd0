"""The kernels of a tier against the reference, over the cases of an op's room, in the dtype that really runs.

The second link in the chain: the reference is checked by derivatives (`gradcheck`), the fast kernels by the reference.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends.devices import to_device
from ...backends.registry import implementation_kernel, implementations, kernel_names, use_backend
from ...ops._shared.case import Case
from .explain import Explanation, explain, jacobian_of

# A Jacobian of so many numbers is computed for the search, by as many calls of the reference as gy has elements.
LARGEST_GY, LARGEST_JACOBIAN = 600, 2**20


@dataclass(frozen=True)
class KernelCheck:
    """One kernel by one implementation, over all cases.

    error: the largest difference over the largest value (at least 1), of the case that comes nearest to what is
    allowed. allowed: in that case. cases: how many there are. wrong: the labels of those in which the kernel is wrong.
    explanation: of the smallest of these; None where all are right.
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
        """Whether the kernel agrees with the reference in every case."""
        return not self.wrong

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        what = f"{self.op}.{self.kernel} ({self.tier}, {self.implementation}, {self.dtype})"
        if self.passed:
            return f"{what}: right in {self.cases} cases, error {self.error:.1g} (allowed: {self.allowed:.1g})"
        return f"{what}: wrong in {len(self.wrong)} of {self.cases} cases: {'; '.join(self.wrong)}\n{self.explanation}"


def compare_tiers(
    op: str, tier: str, implementation: str | None = None, *, dtype: str = "float32", seed: int = 7
) -> list[KernelCheck]:
    """Compare every kernel of an op in a tier with the reference, which computes in float64.

    implementation: a name of the tier's, by default its default. dtype: of the arrays, 'float32' or 'float64'.
    seed: of the cases' numbers. What may differ is 8 rounding errors times the square root of the number of terms that
    are summed, of the largest value. Kernels that change arrays in place are compared in those as well.

    Returns one KernelCheck for each kernel. Raises BackendError, with what is missing, where the tier cannot run.
    """
    implementation = implementation or implementations(op, tier)[0]
    with use_backend(tier), every_access_checked(tier):
        cases = cases_of(op, seed)
        return [check_kernel(op, name, tier, implementation, dtype, cases) for name in kernel_names(op)]


def cases_of(op: str, seed: int = 7, large: bool = True) -> list[Case]:
    """The cases of an op's room, with numbers drawn from this seed; those for a gradient check alone if not `large`."""
    return importlib.import_module(f"tinynet.ops.{op}.cases").cases(np.random.default_rng(seed), large=large)


def rounding(dtype: str, implementation: str | None) -> float:
    """The relative error of a product: of the dtype, or of tensor cores, which drop bits of float32's factors."""
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
    """Compare one kernel with that of the tier `against`, which computes in float64, in those cases that call it.

    Arguments and errors as in `compare_tiers`. ValueError where no case calls the kernel.
    """
    called = [case for case in cases if name in case.calls]
    figures, wrong = [], {}
    for case in called:
        for error, allowed, got, want in _compared(op, name, tier, implementation, dtype, case, against):
            figures.append((error, allowed))
            if error > allowed:
                wrong.setdefault(case.label, (case, got, want, allowed))
    nearest = max(figures, key=lambda figure: figure[0] / figure[1])
    explanation = None
    if wrong:
        smallest = min(wrong.values(), key=lambda found: found[2].size)
        explanation = _explained(op, name, *smallest, titles=("kernel" if tier != "reference" else tier, against))
    return KernelCheck(op, name, tier, implementation, dtype, len(called), *nearest, tuple(wrong), explanation)


def _compared(
    op: str, name: str, tier: str, implementation: str, dtype: str, case: Case, against: str
) -> Iterator[tuple[float, float, np.ndarray, np.ndarray]]:
    """(error, allowed, got, want) for each array that a kernel returns or changes in one case."""
    arrays, parameters = case.calls[name]
    changed = case.changed.get(name, 0)
    device = "cuda" if tier == "cuda" else "cpu"
    given = _mapped(arrays, lambda a: to_device(a.astype(dtype) if a.dtype.kind == "f" else a.copy(), device))
    gots = _outcome(implementation_kernel(op, name, tier, implementation), given, parameters, changed)
    wants = _outcome(implementation_kernel(op, name, against), copy.deepcopy(arrays), parameters, changed)
    allowed = 8 * rounding(dtype, implementation) * max(1.0, case.terms**0.5)
    for got, want in zip(gots, wants, strict=True):
        got = to_device(got, "cpu")
        if got.shape != want.shape:
            yield float("inf"), allowed, got, want
        elif want.dtype.kind != "f":  # indices, for instance
            yield float(np.count_nonzero(got != want)), 0.5, got, want
        else:
            with np.errstate(invalid="ignore"):
                difference = np.nan_to_num(np.abs(got - want), nan=np.inf)
            error = float(np.max(difference, initial=0.0) / np.max(np.abs(want), initial=1.0))
            yield error, allowed, got, want


def _outcome(function: Any, arrays: tuple, parameters: dict[str, Any], changed: int) -> list[Any]:
    """What a kernel returns, and after it the arrays that it changes in place: the first `changed`."""
    returned = function(*arrays, **parameters)
    found = list(returned) if isinstance(returned, tuple) else [] if returned is None else [returned]
    _mapped(arrays[:changed], found.append)
    return found


def _mapped(values: Any, function: Any) -> Any:
    """function of every array among the values and in the lists among them; everything else as it is."""
    if isinstance(values, (list, tuple)):
        return type(values)(_mapped(v, function) for v in values)
    return function(values) if hasattr(values, "dtype") and hasattr(values, "copy") else values


def _explained(
    op: str, name: str, case: Case, got: np.ndarray, want: np.ndarray, allowed: float, titles: tuple[str, str]
) -> Explanation:
    """The report on one case; for a kernel that is given gy, with the Jacobian of the kernel that is right.

    titles: of the two arrays; the second is the tier that is right.
    """
    arrays, parameters = case.calls[name]
    right = implementation_kernel(op, name, titles[1])
    names = list(inspect.signature(right).parameters)[: len(arrays)]
    known = {n: a for n, a in zip(names, arrays) if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
    gy, jacobian = known.get("gy"), None
    if gy is not None and gy.size <= LARGEST_GY and gy.size * want.size <= LARGEST_JACOBIAN:

        def backward(unit: np.ndarray) -> np.ndarray:
            return right(*(unit if n == "gy" else a for n, a in zip(names, arrays)), **parameters)

        jacobian = jacobian_of(backward, gy.shape)
    picture = ("n", "h", "w", "c")
    return explain(
        got,
        want,
        axes=None if want.ndim != 4 else ("kh", "kw", "axis 2", "axis 3") if name == "backward_weight" else picture,
        tolerance=allowed * float(np.max(np.abs(want), initial=1.0)),
        gy=gy,
        gy_axes=picture if gy is not None and gy.ndim == 4 else None,
        jacobian=jacobian,
        known=known,
        name=f"case '{case.label}'",
        titles=titles,
    )


def every_access_checked(tier: str) -> contextlib.AbstractContextManager:
    """The emulator looks at every access to memory, and takes threads in another order than their numbers."""
    if tier != "cuda-sim":
        return contextlib.nullcontext()
    from ...backends.cusim import checked

    return checked(order="reversed")
