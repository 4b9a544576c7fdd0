"""Optimizers: SGD, Adam, AdamW and RMSprop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...backends.devices import to_device
from ...backends.numba.helpers import expect_training
from ...engine.foreign import CallsExplained
from ...engine.tensor import Tensor, no_grad
from ...ops.adam import reference as adam
from ...ops.adam.settings import Settings as AdamSettings
from ...ops.sgd import reference as sgd
from ...ops.sgd.settings import Settings as SGDSettings
from ..module import Module
from ._checks import check_not_negative, check_positive, check_trainable, check_unit, gradients_of, tensors_of

Parameters = Module | Tensor | Iterable[Tensor] | Iterable[Mapping[str, Any]]


class Optimizer(CallsExplained):
    """Base class of optimizers. A new optimizer names its `slots` and writes `_update`.

    parameters: a model, or the tensors to train; `step()` skips those that are frozen or have no gradient. Groups with
    settings of their own are dicts: [{"params": backbone, "lr": 1e-4}, {"params": head, "weight_decay": 0}]. Schedules
    multiply the learning rates of all groups by the same factor.
    lr: the learning rate, > 0; schedules set it between steps, down to 0. weight_decay: >= 0.
    slots: names of the arrays kept for each parameter, of its shape, zeros at the start.
    steps: how many steps were made.

    Raises TypeError or ValueError for parameters that could not be trained: no tensors, arrays, a tensor that was
    computed from others, a tensor listed twice, or only frozen ones.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Parameters, lr: float, weight_decay: float = 0.0) -> None:
        _check_rate(self._name, lr)
        check_not_negative(self._name, weight_decay=weight_decay)
        self.lr, self.weight_decay = float(lr), weight_decay
        self.parameters: list[Tensor] = []
        self._settings: list[Mapping[str, Any]] = []  # of the group of each parameter
        for group in _groups(self._name, parameters):
            tensors = tensors_of(self._name, group["params"])
            self.parameters += tensors
            self._settings += [group] * len(tensors)
        check_trainable(self._name, self.parameters)
        expect_training(p.shape for p in self.parameters)
        self._base_lr = self.lr
        self.steps = 0
        self._updates = [0] * len(self.parameters)  # of each parameter: it may be frozen at first
        self._slots: dict[str, dict[int, Any]] = {name: {} for name in self.slots}

    @property
    def _name(self) -> str:
        return type(self).__name__

    def zero_grad(self) -> None:
        """Delete the gradients, so that the next backward pass does not add to them."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Change each parameter that has a gradient.

        Raises ValueError if `lr` is negative or not finite, RuntimeError if no parameter has a gradient, and TypeError
        for a gradient of another shape or dtype than its parameter.
        """
        check_not_negative(self._name, lr=self.lr)
        gradients = gradients_of(f"{self._name}.step", self.parameters)
        gradients = {i: g for i, g in gradients.items() if self.parameters[i].requires_grad}
        if not gradients:
            raise RuntimeError(
                f"{self._name}.step: no parameter has a gradient, so nothing would change; call loss.backward() first, "
                "with a loss that was computed from these very parameters"
            )
        self.steps += 1
        alike: dict[tuple[int, float, float], list[int]] = {}  # parameters that one call of the kernel updates
        for i in gradients:
            self._updates[i] += 1
            lr = self.lr * (self._settings[i].get("lr", self._base_lr) / self._base_lr)
            alike.setdefault((self._updates[i], lr, self._weight_decay(i)), []).append(i)
        for (t, lr, weight_decay), indices in alike.items():
            arrays = [[self.parameters[i].data for i in indices], [gradients[i] for i in indices]]
            slots = [[self._slot(name, i) for i in indices] for name in self.slots]
            self._update(*arrays, *slots, t=t, lr=lr, weight_decay=weight_decay)
        with no_grad():
            for i in gradients:
                self.parameters[i].changed_in_place()

    def _weight_decay(self, i: int) -> float:
        """The weight decay of parameter i."""
        return self._settings[i].get("weight_decay", self.weight_decay)

    def _update(self, parameters: Any, gradients: Any, *slots: Any, t: int, lr: float, weight_decay: float) -> None:
        """Change the arrays `parameters` and those of each slot in place. The gradients must not change.

        t: the number of this update of these parameters, from 1.
        """
        raise NotImplementedError

    def _slot(self, name: str, i: int) -> Any:
        """Array `name` of parameter i, created at its first use: before that, the model may move to a GPU."""
        arrays = self._slots[name]
        if i not in arrays:
            p = self.parameters[i].data
            arrays[i] = array_module(p).zeros_like(p)
        return arrays[i]

    def state_dict(self) -> dict[str, Any]:
        """{"lr", "steps", "updates" of each parameter, slot name: {index of the parameter: array}}, as NumPy copies."""
        state: dict[str, Any] = {"lr": self.lr, "steps": self.steps, "updates": np.array(self._updates)}
        for name, arrays in self._slots.items():
            state[name] = {str(i): np.array(to_device(array, "cpu")) for i, array in arrays.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state dict. It sets lr; all other settings stay as given to the constructor.

        Raises ValueError if the state is from another kind of optimizer or from other parameters, or lacks an array.
        """
        known = {"lr", "steps", "updates", *self.slots}
        if set(state) - known or not {"lr", "steps"} <= set(state):
            raise ValueError(
                f"{self._name}: the state holds {sorted(state)}, it is not of this kind of optimizer ({sorted(known)})"
            )
        # A checkpoint file has no entry for a slot without arrays.
        loaded = {
            name: {int(i): self._loaded(name, int(i), array) for i, array in state.get(name, {}).items()}
            for name in self.slots
        }
        if "updates" in state:
            updates = [int(count) for count in np.atleast_1d(state["updates"])]
        else:  # an old state counts the steps only
            updates = [int(state["steps"]) * any(i in a for a in loaded.values()) for i in range(len(self.parameters))]
        lacking = [name for name in self.slots for i, count in enumerate(updates) if count and i not in loaded[name]]
        if lacking or len(updates) != len(self.parameters):
            raise ValueError(
                f"{self._name}: the state is of another model or incomplete: it is of {len(updates)} parameters, the "
                f"optimizer has {len(self.parameters)}; {len(lacking)} arrays are missing {sorted(set(lacking))}"
            )
        self.lr, self.steps, self._slots, self._updates = float(state["lr"]), int(state["steps"]), loaded, updates

    def _loaded(self, name: str, i: int, array: Any) -> Any:
        """An array of a state dict on the device of parameter i."""
        shape = self.parameters[i].shape if i < len(self.parameters) else "nothing"
        if np.shape(array) != shape:
            raise ValueError(
                f"{self._name}: {name} of parameter {i} has shape {np.shape(array)} in the state, "
                f"{shape} in the optimizer: the state is of another model"
            )
        p = self.parameters[i]
        return to_device(np.array(array, dtype=p.dtype), p.device)


class SGD(Optimizer):
    """Stochastic gradient descent, with or without momentum. The update: `tinynet/ops/sgd/reference.py`.

    momentum: 0 <= momentum < 1. nesterov: the form that evaluates the gradient one step of momentum ahead.
    weight_decay: >= 0; it adds the gradient of weight_decay |p|^2 / 2.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        check_unit("SGD", momentum=momentum)
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov needs momentum > 0")
        self.momentum, self.nesterov = momentum, nesterov
        self.slots = ("velocity",) if momentum else ()
        super().__init__(parameters, lr, weight_decay)

    def _update(self, parameters: Any, gradients: Any, *slots: Any, t: int, lr: float, weight_decay: float) -> None:
        velocities = slots[0] if slots else None
        settings = SGDSettings(lr, self.momentum, self.nesterov, weight_decay)
        sgd.step(parameters, velocities, gradients, settings=settings)


class Adam(Optimizer):
    """Adam: each weight moves by about lr in a step, whatever the size of its gradients.

    The update: `tinynet/ops/adam/reference.py`. betas: each 0 <= beta < 1. eps: > 0. weight_decay: >= 0, a part of
    the gradient; see AdamW.
    """

    slots = ("mean", "square")
    _decay = "weight_decay"

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        check_unit(self._name, beta1=betas[0], beta2=betas[1])
        check_positive(self._name, eps=eps)
        self.betas, self.eps = betas, eps

    def _update(self, parameters: Any, gradients: Any, *slots: Any, t: int, lr: float, weight_decay: float) -> None:
        means, squares = slots
        settings = AdamSettings(lr, self.betas, self.eps, **{self._decay: weight_decay})
        adam.step(parameters, means, squares, gradients, t=t, settings=settings)


class AdamW(Adam):
    """Adam with decoupled weight decay: p = p - lr weight_decay p before each step; the gradient is not changed.

    In Adam, weight decay is a part of the gradient and divided by sqrt(v) like the rest, so weights with large
    gradients hardly decay. Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.

    decay_biases: if False, parameters with one axis (biases) do not decay; their decay seldom helps.
    """

    _decay = "decoupled_weight_decay"

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        decay_biases: bool = True,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)
        self.decay_biases = decay_biases

    def _weight_decay(self, i: int) -> float:
        decays = self.decay_biases or self.parameters[i].ndim > 1
        return super()._weight_decay(i) if decays else 0.0


class RMSprop(Optimizer):
    """Divide each gradient by the root of a running mean of its squares: v = smoothing v + (1 - smoothing) g^2.

    Then p = p - lr g / (sqrt(v) + eps). smoothing: 0 <= smoothing < 1, alpha in PyTorch, rho in Keras. eps: > 0.
    weight_decay: >= 0, a part of the gradient. Hinton, Neural Networks for Machine Learning, lecture 6e, 2012.
    """

    slots = ("square",)

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-2,
        smoothing: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        check_unit("RMSprop", smoothing=smoothing)
        check_positive("RMSprop", eps=eps)
        self.smoothing, self.eps = smoothing, eps

    def _update(self, parameters: Any, gradients: Any, *slots: Any, t: int, lr: float, weight_decay: float) -> None:
        for p, g, v in zip(parameters, gradients, *slots):
            g = g + weight_decay * p
            v[...] = self.smoothing * v + (1 - self.smoothing) * g * g
            p -= lr * g / (np.sqrt(v) + self.eps)


def _check_rate(name: str, lr: Any) -> None:
    if not (isinstance(lr, (int, float, np.number)) and 0 < lr < math.inf):
        raise ValueError(f"{name}: lr is {lr!r}; a positive, finite number is needed")


def _groups(name: str, parameters: Any) -> Sequence[Mapping[str, Any]]:
    """The groups of parameters, each {"params": tensors, and its own "lr" and "weight_decay", if any}."""
    entries = list(parameters) if isinstance(parameters, Iterator) else parameters
    if not (isinstance(entries, (list, tuple)) and any(isinstance(entry, Mapping) for entry in entries)):
        return [{"params": entries}]
    for i, group in enumerate(entries):
        if not isinstance(group, Mapping) or "params" not in group or set(group) - {"params", "lr", "weight_decay"}:
            given = list(group) if isinstance(group, Mapping) else type(group).__name__
            raise ValueError(
                f'{name}: parameters[{i}] is {given}; a group is a dict with "params" and optionally "lr" and '
                '"weight_decay", and either all parameters are in groups or none'
            )
        if "lr" in group:
            _check_rate(name, group["lr"])
        check_not_negative(name, weight_decay=group.get("weight_decay", 0.0))
    return entries
