"""What a gradient check found, and its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .explain import Explanation, explain
from .outcome import Outcome
from .where import at, default_axes


class GradientError(AssertionError):
    """A gradient is wrong. `result` is the CheckResult with every element."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(str(result))
        self.result = result


@dataclass(frozen=True)
class InputCheck:
    """What was found for one input; all arrays are float64 of its shape.

    name: 'input 0' and so on. analytic: what backward returned. numeric: the numerical derivative. error_bar: its
    uncertainty. tolerance: the accepted difference. label: the name of this argument of fn, '' if it is not known.
    method: how `numeric` was computed. context: further arguments of `explain`. note: one more line for the report.
    kink: bool, where left and right derivative differ; None if it is not known.
    """

    name: str
    analytic: np.ndarray
    numeric: np.ndarray
    error_bar: np.ndarray
    tolerance: np.ndarray
    label: str = ""
    method: str = "central differences"
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)
    note: str = ""
    kink: np.ndarray | None = None

    @property
    def difference(self) -> np.ndarray:
        """|analytic - numeric|; infinite if analytic is not finite."""
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(self.analytic), np.abs(self.analytic - self.numeric), np.inf)

    @property
    def is_ok(self) -> np.ndarray:
        """For each element: it agrees. bool."""
        return self.difference <= self.tolerance

    @property
    def is_wrong(self) -> np.ndarray:
        """For each element: it differs by more than tolerance and error bar together. bool."""
        # If `numeric` or its bar is NaN, this comparison is false, and the element is inconclusive.
        return ~self.is_ok & ((self.difference > self.tolerance + self.error_bar) | ~np.isfinite(self.analytic))

    @property
    def is_inconclusive(self) -> np.ndarray:
        """For each element: the numerical derivative cannot decide, because a kink is near. bool."""
        return ~self.is_ok & ~self.is_wrong

    @property
    def ok(self) -> int:
        """How many elements agree."""
        return int(np.count_nonzero(self.is_ok))

    @property
    def inconclusive(self) -> int:
        """How many elements are inconclusive."""
        return int(np.count_nonzero(self.is_inconclusive))

    @property
    def wrong(self) -> int:
        """How many elements disagree."""
        return int(np.count_nonzero(self.is_wrong))

    @property
    def undecided(self) -> bool:
        """True if every element is inconclusive, so that nothing was checked."""
        return 0 < self.analytic.size == self.inconclusive

    @property
    def worst(self) -> tuple[int, ...] | None:
        """The index of the wrong element with the largest difference; if none is wrong, of the ok element."""
        eligible = self.is_wrong if self.wrong else self.is_ok
        if not eligible.any():
            return None
        flat = int(np.argmax(np.where(eligible, self.difference, -1.0)))
        return tuple(int(i) for i in np.unravel_index(flat, self.analytic.shape))

    @property
    def accuracy(self) -> float:
        """The largest difference of the elements that are ok, over the largest value of the gradient."""
        scale = float(np.max(np.abs(self.numeric[self.is_ok]), initial=0.0)) or 1.0
        return float(np.max(self.difference[self.is_ok], initial=0.0)) / scale

    @cached_property
    def explanation(self) -> Explanation:
        """Where the gradient is wrong and which mistake gives exactly that."""
        return explain(
            self.analytic,
            self.numeric,
            error_bar=self.error_bar,
            tolerance=self.tolerance,
            name=self.title,
            noun="gradient",
            titles=("analytic", "numeric"),
            **self.context,
        )

    @property
    def title(self) -> str:
        """'input 0 (x)'."""
        return f"{self.name} ({self.label})" if self.label else self.name

    def __str__(self) -> str:
        size = self.analytic.size
        found = f"{self.ok} of {size} elements ok to {self.accuracy:.1g} of the largest value ({self.method})"
        if self.wrong:
            lines = [str(self.explanation), f"  {found}"] if self.ok else [str(self.explanation)]
        else:
            lines = [f"{self.title}, shape {self.analytic.shape}: {found}"]
        if self.note:
            lines.append(f"  {self.note}")
        if self.inconclusive:
            first = tuple(int(i) for i in np.argwhere(self.is_inconclusive)[0])
            axes = self.context.get("axes") or default_axes(self.analytic.ndim)
            is_kink = self.kink is not None and self.kink[self.is_inconclusive].all()
            why = "a kink is nearer than the step" if is_kink else "the numerical derivative is not exact enough there"
            lines.append(
                f"  {self.inconclusive} of {size} INCONCLUSIVE, {why}: first at "
                f"{at(first, axes)}, analytic {self.analytic[first]:.6g}, numeric {self.numeric[first]:.6g} "
                f"(error bar {self.error_bar[first]:.1g})"
            )
        if self.undecided:
            lines.append(
                "  every element is inconclusive, so nothing was checked. Move the values away from kinks (0 of ReLU, "
                "ties of a maximum) and poles, or pass a smaller h"
            )
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class CheckResult(Outcome):
    """The outcome of a check.

    inputs: one InputCheck for each input that was differentiated. gy: the upstream gradient that was used.
    problems: everything else that is wrong, in sentences. rerun: what repeats this check.
    shrink: computes the smallest case that still fails, in words, or None.
    """

    inputs: list[InputCheck]
    gy: np.ndarray
    problems: list[str] = field(default_factory=list)
    rerun: str = ""
    shrink: Callable[[], str | None] = field(default=lambda: None, repr=False)

    @property
    def passed(self) -> bool:
        """True if no element is wrong, no input is undecided and there are no other problems."""
        return not self.problems and all(i.wrong == 0 and not i.undecided for i in self.inputs)

    @property
    def accuracy(self) -> float:
        """The largest of the inputs' accuracies."""
        return max((i.accuracy for i in self.inputs), default=0.0)

    @cached_property
    def smallest(self) -> str | None:
        """The smallest case that still fails, in words; None if nothing is wrong, or if none was found."""
        return self.shrink() if any(i.wrong for i in self.inputs) else None

    def heat_map(self, path: str) -> None:
        """Write a PNG, analytic | numeric | difference around the worst entry of the first wrong gradient.

        Raises ValueError if no gradient is wrong.
        """
        wrong = next((i for i in self.inputs if i.wrong), None)
        if wrong is None:
            raise ValueError("heat_map: no gradient is wrong, there is nothing to show")
        wrong.explanation.heat_map(path)

    def __str__(self) -> str:
        lines = ["gradients agree" if self.passed else "gradient check failed", *self.problems, *map(str, self.inputs)]
        if not self.passed:
            lines += [self.smallest] if self.smallest else []
            lines += [f"once more: {self.rerun}"] if self.rerun else []
        return "\n".join(lines).replace("\n", "\n  ")


def concluded(result: CheckResult, raise_error: bool) -> CheckResult:
    """The result. Raises GradientError if it has not passed, unless raise_error is False."""
    if raise_error and not result.passed:
        raise GradientError(result)
    return result
