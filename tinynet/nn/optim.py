"""Optimisers, learning-rate schedules, gradient clipping and the running average of weights.

An optimiser turns gradients into changes of the parameters, in place:

    optimizer = Adam(model.parameters(), lr=1e-3)
    schedule = CosineDecay(optimizer, total=1000, warmup=50)
    for images, masks in loader:
        optimizer.zero_grad()
        tn.dice_loss(model(images), masks).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()

All of them have `state_dict()` and `load_state_dict()`; a run that is resumed with the same settings goes on
bit for bit as if it had not been interrupted.

In the formulas p is a parameter, g its gradient, t counts the steps from 1. The updates work in place, because a
step over millions of weights takes as long as its passes over memory. So each formula has a kernel that makes one pass
over all parameters (`ops/sgd`, `ops/adam`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..backends.arrays import array_module
from ..backends.devices import to_device
from ..backends.registry import kernel
from ..engine.tensor import Tensor, no_grad
from .module import Module


# ---------------------------------------------------------------------------------------- optimisers
class Optimizer:
    """What all optimisers share. A new one names its `slots` and writes `_update`.

    parameters: what to train; those that are frozen or have no gradient are left alone by `step()`.
    lr: the learning rate, > 0; schedules set it between steps, down to 0.
    slots: names of the arrays kept for each parameter, of its shape, zeros at the start.
    steps: how many steps were made.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{self._name}: parameters is empty; model.parameters() is what is usually passed")
        for i, p in enumerate(self.parameters):
            if not isinstance(p, Tensor):
                raise TypeError(f"{self._name}: parameters[{i}] is a {type(p).__name__}; a Tensor is needed")
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{self._name}: a parameter is listed twice, and would be updated twice a step")
        if not (isinstance(lr, (int, float, np.number)) and 0 < lr < math.inf):
            raise ValueError(f"{self._name}: lr is {lr!r}; a positive, finite number is needed")
        self.lr = float(lr)
        self.steps = 0
        self._slots: dict[str, dict[int, Any]] = {name: {} for name in self.slots}

    @property
    def _name(self) -> str:
        return type(self).__name__

    def zero_grad(self) -> None:
        """Forget the gradients, so that the next backward pass starts afresh."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Change each parameter that has a gradient. Raises ValueError where `lr` was set to nonsense."""
        _check_not_negative(self._name, lr=self.lr)
        self.steps += 1
        trained = [i for i, p in enumerate(self.parameters) if p.grad is not None and p.requires_grad]
        parameters = [self.parameters[i] for i in trained]
        slots = ([self._slot(name, i) for i in trained] for name in self.slots)
        self._update([p.data for p in parameters], [p.grad.data for p in parameters], *slots)
        with no_grad():
            for p in parameters:
                p.changed_in_place()

    def _update(self, parameters: list[Any], gradients: list[Any], *slots: list[Any]) -> None:
        """Change the arrays `parameters` in place, given their gradients (not to be changed) and, for each name in
        `slots`, the list of their arrays."""
        raise NotImplementedError

    def _slot(self, name: str, i: int) -> Any:
        """Array `name` of parameter i, made when it is first needed: the model may have moved until then."""
        arrays = self._slots[name]
        if i not in arrays:
            p = self.parameters[i].data
            arrays[i] = array_module(p).zeros_like(p)
        return arrays[i]

    def state_dict(self) -> dict[str, Any]:
        """{"lr", "steps", slot name: {index of the parameter: array}}; the arrays are copies, in NumPy."""
        state: dict[str, Any] = {"lr": self.lr, "steps": self.steps}
        for name, arrays in self._slots.items():
            state[name] = {str(i): np.array(to_device(array, "cpu")) for i, array in arrays.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state dict. Settings other than lr are those given when the optimiser was made.

        Raises ValueError for the state of another kind of optimiser or of other parameters.
        """
        unknown = set(state) - {"lr", "steps", *self.slots}
        if unknown or not {"lr", "steps"} <= set(state):
            raise ValueError(
                f"{self._name}: the state holds {sorted(state)}, it is not of this kind of optimiser "
                f"({sorted(['lr', 'steps', *self.slots])})"
            )
        loaded: dict[str, dict[int, Any]] = {}
        for name in self.slots:  # a slot without arrays is left out of a file
            loaded[name] = {}
            for index, array in state.get(name, {}).items():
                i = int(index)
                if i >= len(self.parameters) or np.shape(array) != self.parameters[i].shape:
                    shape = self.parameters[i].shape if i < len(self.parameters) else "nothing"
                    raise ValueError(
                        f"{self._name}: {name} of parameter {i} has shape {np.shape(array)} in the state, "
                        f"{shape} in the optimiser: the state is of another model"
                    )
                p = self.parameters[i]
                loaded[name][i] = to_device(np.array(array, dtype=p.dtype), p.device)
        self.lr, self.steps, self._slots = float(state["lr"]), int(state["steps"]), loaded


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

        d = g + weight_decay p
        v = momentum v + d
        p = p - lr v,    with nesterov  p = p - lr (d + momentum v)

    v starts as zeros. Sutskever et al., On the importance of initialization and momentum in deep learning,
    2013, section 2, with the learning rate outside of v, so that changing it takes effect at once. Nesterov's
    form evaluates the gradient one step of momentum ahead; here p is that point ahead.

    momentum: 0 <= momentum < 1. weight_decay: >= 0; d is the gradient of the loss + weight_decay |p|^2 / 2.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        _check_unit("SGD", momentum=momentum)
        _check_not_negative("SGD", weight_decay=weight_decay)
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov needs momentum > 0")
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.slots = ("velocity",) if momentum else ()
        super().__init__(parameters, lr)

    def _update(self, parameters: list[Any], gradients: list[Any], velocities: list[Any] | None = None) -> None:
        settings = {"momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": self.weight_decay}
        kernel("sgd", "step")(parameters, velocities, gradients, lr=self.lr, **settings)


class Adam(Optimizer):
    """Adam: steps of about lr in each weight, whatever the size of its gradients.

        g = g + weight_decay p
        m = beta1 m + (1 - beta1) g        running mean of g
        v = beta2 v + (1 - beta2) g^2      running mean of g^2
        p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    m and v start as zeros; dividing by 1 - beta^t takes that bias away. Kingma and Ba, Adam: A Method for
    Stochastic Optimization, 2015, algorithm 1.

    betas: each 0 <= beta < 1. eps: > 0. weight_decay: >= 0, here a part of the gradient, see AdamW.
    """

    slots = ("mean", "square")

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        _check_unit(self._name, beta1=betas[0], beta2=betas[1])
        _check_not_negative(self._name, weight_decay=weight_decay)
        if not eps > 0:
            raise ValueError(f"{self._name}: eps is {eps}; it must be positive")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def _update(self, parameters: list[Any], gradients: list[Any], means: list[Any], squares: list[Any]) -> None:
        self._adam(parameters, means, squares, gradients, weight_decay=self.weight_decay)

    def _adam(self, parameters: Sequence[Any], *arrays: Sequence[Any], **decay: float) -> None:
        settings = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "t": self.steps}
        kernel("adam", "step")(parameters, *arrays, **settings, **decay)


class AdamW(Adam):
    """Adam with decoupled weight decay: before each step p = p - lr weight_decay p, and the gradient is left alone.

    In Adam a weight decay inside the gradient is divided by sqrt(v) like the rest of it, so weights with large
    gradients are hardly decayed. Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.

    decay_biases: whether parameters with one axis (biases) decay too; it seldom helps.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        decay_biases: bool = True,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)
        self.decay_biases = decay_biases

    def _update(self, parameters: list[Any], gradients: list[Any], means: list[Any], squares: list[Any]) -> None:
        for decays in (True, False):
            group = [
                arrays
                for arrays in zip(parameters, means, squares, gradients)
                if decays == (arrays[0].ndim > 1 or self.decay_biases)
            ]
            if group:
                self._adam(*zip(*group), shrink=self.lr * self.weight_decay if decays else 0.0)


# ---------------------------------------------------------------------------------------- gradient clipping
def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor so that their common norm is at most max_norm; return the norm before.

    The norm is that of all gradients laid end to end, and the direction stays as it is. Pascanu et al., On the
    difficulty of training recurrent neural networks, 2013, algorithm 1. A norm that is not finite is returned
    and the gradients are left as they are, for the caller to stop at. Raises ValueError unless max_norm > 0.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm is {max_norm}; it must be positive")
    gradients = [p.grad.data for p in parameters if p.grad is not None]
    if not gradients:
        return 0.0
    total = to_device(kernel("gradient_norm", "sum_of_squares")(gradients), "cpu")  # a GPU is waited for here
    norm = math.sqrt(float(total))
    if max_norm < norm < math.inf:
        kernel("gradient_norm", "scale")(gradients, factor=max_norm / norm)
    return norm


def clip_grad_value(parameters: Iterable[Tensor], max_value: float) -> None:
    """Cut every element of the gradients to -max_value .. max_value. Raises ValueError unless max_value > 0."""
    if not max_value > 0:
        raise ValueError(f"clip_grad_value: max_value is {max_value}; it must be positive")
    for p in parameters:
        if p.grad is not None:
            g = p.grad.data
            array_module(g).clip(g, -max_value, max_value, out=g)


# ---------------------------------------------------------------------------------------- schedules
class Schedule:
    """Sets `optimizer.lr` as a function of how often `step()` was called. A new one writes `factor`.

    Whether a step is a batch or an epoch is the caller's choice. The optimiser's lr when the schedule is made
    is the base that factors multiply.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.steps = 0
        self._set_lr()

    def factor(self, step: int) -> float:
        """lr / base lr after `step` steps."""
        raise NotImplementedError

    def step(self) -> None:
        """Go on by one step; call it after `optimizer.step()`."""
        self.steps += 1
        self._set_lr()

    def _set_lr(self) -> None:
        self.optimizer.lr = self.base_lr * self.factor(self.steps)

    def state_dict(self) -> dict[str, float]:
        """What changes from step to step, and the base; the settings are those given when the schedule was made."""
        return {"base_lr": self.base_lr, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a state dict; sets the optimiser's lr."""
        self.base_lr, self.steps = float(state["base_lr"]), int(state["steps"])
        self._set_lr()


class StepDecay(Schedule):
    """lr = base * decay^(step // every): down by a factor every so many steps."""

    def __init__(self, optimizer: Optimizer, every: int, decay: float = 0.1) -> None:
        _check_steps("StepDecay", every=every)
        if not 0 < decay <= 1:
            raise ValueError(f"StepDecay: decay is {decay}; it must lie in 0 < decay <= 1")
        self.every, self.decay = every, decay
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self.decay ** (step // self.every)


class CosineDecay(Schedule):
    """A linear rise over `warmup` steps to the base, then half a cosine down to base * floor at step `total`.

        (step + 1) / (warmup + 1)                                             for step < warmup
        floor + (1 - floor) (1 + cos(pi (step - warmup) / (total - warmup))) / 2      after that

    The first step of the rise is above zero, or it would be wasted. After `total` the floor is kept.
    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, equation 5, one cycle.
    """

    def __init__(self, optimizer: Optimizer, total: int, warmup: int = 0, floor: float = 0.0) -> None:
        _check_steps("CosineDecay", total=total)
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

    Smith and Topin, Super-Convergence, 2018, in the common form with cosines for the straight lines; the
    momentum is left alone. The base lr is the peak.
    """

    def __init__(
        self, optimizer: Optimizer, total: int, rise: float = 0.3, start_div: float = 25, end_div: float = 1e4
    ) -> None:
        _check_steps("OneCycle", total=total)
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

    mode: 'min' for a loss, 'max' for a score. An improvement is one by more than `threshold` (absolute).
    smallest: lr is not reduced below this fraction of the base. A metric that is NaN is no improvement.
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
        _check_not_negative("ReduceOnPlateau", patience=patience, threshold=threshold)
        self.decay, self.patience, self.mode = decay, patience, mode
        self.threshold, self.smallest = threshold, smallest
        self.best = math.inf if mode == "min" else -math.inf
        self.waited = 0
        self.reductions = 0
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return max(self.decay**self.reductions, self.smallest)

    def step(self, metric: float) -> None:
        """Look at the metric of the last epoch."""
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
    """From start (progress 0) to end (progress 1 and beyond) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


# ---------------------------------------------------------------------------------------- averaged weights
class WeightAverage:
    """A running average of a model's weights, often better on new data than the last weights.

        average = average + (1 - d) (weights - average),   d = min(decay, t / (t + 9)) at the t-th update

    The average forgets with a memory of about 1 / (1 - decay) updates; with the smaller d early on it is not
    held back by the initial weights. Polyak and Juditsky, Acceleration of Stochastic Approximation by
    Averaging, 1992, with an exponential window.

        average = WeightAverage(model, 0.999)
        ...; optimizer.step(); average.update()
        with average.applied():
            evaluate(model)          # or save its weights
    """

    def __init__(self, model: Module, decay: float = 0.999) -> None:
        _check_unit("WeightAverage", decay=decay)
        self.model, self.decay, self.updates = model, decay, 0
        self._averages = {name: p.data.copy() for name, p in model.named_parameters()}

    def update(self) -> None:
        """Take the model's weights into the average; call it after each `optimizer.step()`."""
        self.updates += 1
        share = 1 - min(self.decay, self.updates / (self.updates + 9))
        for name, p in self.model.named_parameters():
            average = self._averages[name]
            change = p.data - average
            change *= share
            average += change

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside `with average.applied():` the model has the averaged weights; afterwards its own again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        with no_grad():
            for name, p in self.model.named_parameters():
                p.data, self._averages[name] = self._averages[name], p.data
                p.changed_in_place()

    def state_dict(self) -> dict[str, Any]:
        """{"updates", "averages": {name of the parameter: array}}; the arrays are copies, in NumPy."""
        averages = {name: np.array(to_device(a, "cpu")) for name, a in self._averages.items()}
        return {"updates": self.updates, "averages": averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state dict. Raises ValueError where it is of another model."""
        averages = state["averages"]
        shapes = {name: p.shape for name, p in self.model.named_parameters()}
        wrong = [n for n in {**shapes, **averages} if n not in averages or np.shape(averages[n]) != shapes.get(n)]
        if wrong:
            raise ValueError(f"WeightAverage: the state is of another model; it differs in {', '.join(wrong)}")
        for name, p in self.model.named_parameters():
            self._averages[name] = to_device(np.array(averages[name], dtype=p.dtype), p.device)
        self.updates = int(state["updates"])


# ---------------------------------------------------------------------------------------- checks of arguments
def _check_unit(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}: {argument} is {value}; it must lie in 0 <= {argument} < 1")


def _check_not_negative(name: str, **values: float) -> None:
    for argument, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: {argument} is {value}; it must be finite and not negative")


def _check_steps(name: str, **values: int) -> None:
    for argument, value in values.items():
        if value < 1:
            raise ValueError(f"{name}: {argument} is {value}; it must be at least 1")
