"""Learning-rate schedules: closed formulas of the step, and a reduction when a metric stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ...engine.foreign import CallsExplained
from ._checks import check_decay, check_not_negative, check_steps
from .optimizers import Optimizer


class Schedule(CallsExplained):
    """Base class: sets `optimizer.lr` as a function of how often `step()` was called. A new schedule writes `factor`.

    The caller decides whether a step is a batch or an epoch. The base lr, which the factors multiply, is the
    optimizer's lr when the schedule is created.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: optimizer is a {type(optimizer).__name__}; an Optimizer is needed")
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.steps = 0
        self._set_lr()

    def factor(self, step: int) -> float:
        """lr / base lr after `step` steps."""
        raise NotImplementedError

    def step(self) -> None:
        """Advance by one step. Call it after `optimizer.step()`."""
        self.steps += 1
        self._set_lr()

    def _set_lr(self) -> None:
        self.optimizer.lr = self.base_lr * self.factor(self.steps)

    def state_dict(self) -> dict[str, float]:
        """The base lr and what changes from step to step. It does not hold the settings given to the constructor."""
        return {"base_lr": self.base_lr, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from a state dict; sets the optimizer's lr."""
        self.base_lr, self.steps = float(state["base_lr"]), int(state["steps"])
        self._set_lr()


class StepDecay(Schedule):
    """lr = base * decay^(step // every): multiplied by `decay` after every `every` steps."""

    def __init__(self, optimizer: Optimizer, every: int, decay: float = 0.1) -> None:
        check_steps("StepDecay", every=every)
        check_decay(type(self).__name__, decay)
        self.every, self.decay = every, decay
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self.decay ** (step // self.every)


class MultiStepDecay(Schedule):
    """lr is multiplied by `decay` when the number of steps reaches each of the `milestones`."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], decay: float = 0.1) -> None:
        check_decay("MultiStepDecay", decay)
        if not isinstance(milestones, (list, tuple)):
            raise ValueError(f"MultiStepDecay: milestones is {milestones!r}; a list of steps is needed")
        for step in milestones:
            check_steps("MultiStepDecay", milestones=step)
        self.milestones, self.decay = tuple(milestones), decay
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self.decay ** sum(step >= milestone for milestone in self.milestones)


class ExponentialDecay(StepDecay):
    """lr = base * decay^step: multiplied by `decay` after every step."""

    def __init__(self, optimizer: Optimizer, decay: float) -> None:
        super().__init__(optimizer, 1, decay)


class CosineDecay(Schedule):
    """A linear rise over `warmup` steps to the base, then half a cosine down to base * floor at step `total`.

        (step + 1) / (warmup + 1)                                                     for step < warmup
        floor + (1 - floor) (1 + cos(pi (step - warmup) / (total - warmup))) / 2      after that

    The rise starts above zero, so that the first step is not wasted. After `total` the floor is kept.
    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, equation 5, one cycle.
    """

    def __init__(self, optimizer: Optimizer, total: int, warmup: int = 0, floor: float = 0.0) -> None:
        check_steps("CosineDecay", total=total)
        if not 0 <= warmup < total:
            raise ValueError(f"CosineDecay: warmup is {warmup}; it must lie in 0 <= warmup < total = {total}")
        if not 0 <= floor <= 1:
            raise ValueError(f"CosineDecay: floor is {floor}; it must lie in 0 <= floor <= 1")
        self.total, self.warmup, self.floor = total, warmup, floor
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return _cosine(1.0, self.floor, (step - self.warmup) / (self.total - self.warmup))


class OneCycle(Schedule):
    """Up from base / start_div to the base over the first `rise` of the steps, down to base / end_div: two cosines.

    The base lr is the peak. Smith and Topin, Super-Convergence, 2018, in the common form: cosines in place of straight
    lines, and a constant momentum.
    """

    def __init__(
        self, optimizer: Optimizer, total: int, rise: float = 0.3, start_div: float = 25, end_div: float = 1e4
    ) -> None:
        check_steps("OneCycle", total=total)
        if not 0 < rise < 1:
            raise ValueError(f"OneCycle: rise is {rise}; it must lie in 0 < rise < 1")
        if min(start_div, end_div) < 1:
            raise ValueError(f"OneCycle: start_div is {start_div} and end_div {end_div}; both must be at least 1")
        self.total, self.rise, self.start_div, self.end_div = total, rise, start_div, end_div
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        peak = self.rise * self.total
        if step < peak:
            return _cosine(1 / self.start_div, 1.0, step / peak)
        return _cosine(1.0, 1 / self.end_div, (step - peak) / (self.total - peak))


class ReduceOnPlateau(Schedule):
    """Multiply lr by `decay` each time the metric has not improved for more than `patience` steps in a row.

    mode: 'min' for a loss, 'max' for a score. An improvement must exceed `threshold` (absolute); NaN is none.
    smallest: lr does not fall below this fraction of the base.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        decay: float = 0.5,
        patience: int = 5,
        mode: str = "min",
        threshold: float = 0.0,
        smallest: float = 1e-3,
    ) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ReduceOnPlateau: decay is {decay}; it must lie in 0 < decay < 1")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceOnPlateau: mode is {mode!r}; 'min' or 'max' is needed")
        check_not_negative("ReduceOnPlateau", patience=patience, threshold=threshold)
        self.decay, self.patience, self.mode = decay, patience, mode
        self.threshold, self.smallest = threshold, smallest
        self.best = math.inf if mode == "min" else -math.inf
        self.waited = 0
        self.reductions = 0
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return max(self.decay**self.reductions, self.smallest)

    def step(self, metric: float) -> None:  # type: ignore[override]  # this schedule alone needs a metric
        """Advance by one step. metric: the value after the last epoch."""
        gain = self.best - metric if self.mode == "min" else metric - self.best
        if gain > self.threshold:
            self.best, self.waited = float(metric), 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.reductions, self.waited = self.reductions + 1, 0
        super().step()

    def state_dict(self) -> dict[str, float]:
        progress = {"best": self.best, "waited": self.waited, "reductions": self.reductions}
        return {**super().state_dict(), **progress}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.best = float(state["best"])
        self.waited, self.reductions = int(state["waited"]), int(state["reductions"])
        super().load_state_dict(state)


def _cosine(start: float, end: float, progress: float) -> float:
    """The value on half a cosine from start (progress 0) to end (progress 1 and beyond)."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
