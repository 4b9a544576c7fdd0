"""Optimizers: SGD, Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...backends.devices import to_device
from ...engine.tensor import Tensor, no_grad
from ...ops.adam import reference as adam
from ...ops.adam.settings import Settings as AdamSettings
from ...ops.sgd import reference as sgd
from ...ops.sgd.settings import Settings as SGDSettings
from ._checks import check_not_negative, check_positive, check_unit


class Optimizer:
    """Base class of optimizers. A new optimizer names its `slots` and writes `_update`.

    parameters: the tensors to train; `step()` skips those that are frozen or have no gradient.
    lr: the learning rate, > 0; schedules set it between steps, down to 0.
    slots: names of the arrays kept for each parameter, of its shape, zeros at the start.
    steps: how many steps were made.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{self._name}: parameters is empty; usually you pass model.parameters()")
        for i, p in enumerate(self.parameters):
            if not isinstance(p, Tensor):
                raise TypeError(f"{self._name}: parameters[{i}] is a {type(p).__name__}; a Tensor is needed")
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{self._name}: a parameter is listed twice, and each step would update it twice")
        if not (isinstance(lr, (int, float, np.number)) and 0 < lr < math.inf):
            raise ValueError(f"{self._name}: lr is {lr!r}; a positive, finite number is needed")
        self.lr = float(lr)
        self.steps = 0
        self._slots: dict[str, dict[int, Any]] = {name: {} for name in self.slots}

    @property
    def _name(self) -> str:
        return type(self).__name__

    def zero_grad(self) -> None:
        """Delete the gradients, so that the next backward pass does not add to them."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Change each parameter that has a gradient. Raises ValueError if `lr` is negative or not finite."""
        check_not_negative(self._name, lr=self.lr)
        self.steps += 1
        trained = [(i, p, p.grad) for i, p in enumerate(self.parameters) if p.grad is not None and p.requires_grad]
        slots = ([self._slot(name, i) for i, _, _ in trained] for name in self.slots)
        self._update([p.data for _, p, _ in trained], [grad.data for _, _, grad in trained], *slots)
        with no_grad():
            for _, p, _ in trained:
                p.changed_in_place()

    def _update(self, parameters: list[Any], gradients: list[Any], *slots: list[Any]) -> None:
        """Change `parameters` and the arrays of each slot in place. The gradients must not change."""
        raise NotImplementedError

    def _slot(self, name: str, i: int) -> Any:
        """Array `name` of parameter i, created at its first use: before that, the model may move to a GPU."""
        arrays = self._slots[name]
        if i not in arrays:
            p = self.parameters[i].data
            arrays[i] = array_module(p).zeros_like(p)
        return arrays[i]

    def state_dict(self) -> dict[str, Any]:
        """{"lr", "steps", slot name: {index of the parameter: array}}; the arrays are NumPy copies."""
        state: dict[str, Any] = {"lr": self.lr, "steps": self.steps}
        for name, arrays in self._slots.items():
            state[name] = {str(i): np.array(to_device(array, "cpu")) for i, array in arrays.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state dict. It sets lr; all other settings stay as given to the constructor.

        Raises ValueError if the state is from another kind of optimizer or from other parameters.
        """
        known = {"lr", "steps", *self.slots}
        if set(state) - known or not {"lr", "steps"} <= set(state):
            raise ValueError(
                f"{self._name}: the state holds {sorted(state)}, it is not of this kind of optimizer ({sorted(known)})"
            )
        # A checkpoint file has no entry for a slot without arrays.
        loaded = {
            name: {int(i): self._loaded(name, int(i), array) for i, array in state.get(name, {}).items()}
            for name in self.slots
        }
        self.lr, self.steps, self._slots = float(state["lr"]), int(state["steps"]), loaded

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
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        check_unit("SGD", momentum=momentum)
        check_not_negative("SGD", weight_decay=weight_decay)
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov needs momentum > 0")
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.slots = ("velocity",) if momentum else ()
        super().__init__(parameters, lr)

    def _update(self, parameters: list[Any], gradients: list[Any], *slots: list[Any]) -> None:
        velocities = slots[0] if slots else None
        settings = SGDSettings(self.lr, self.momentum, self.nesterov, self.weight_decay)
        sgd.step(parameters, velocities, gradients, settings=settings)


class Adam(Optimizer):
    """Adam: each weight moves by about lr in a step, whatever the size of its gradients.

    The update: `tinynet/ops/adam/reference.py`. betas: each 0 <= beta < 1. eps: > 0. weight_decay: >= 0, a part of
    the gradient; see AdamW.
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
        check_unit(self._name, beta1=betas[0], beta2=betas[1])
        check_not_negative(self._name, weight_decay=weight_decay)
        check_positive(self._name, eps=eps)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def _update(self, *arrays: list[Any]) -> None:
        self._adam(arrays, weight_decay=self.weight_decay)

    def _adam(self, arrays: Sequence[Sequence[Any]], **weight_decay: float) -> None:
        parameters, gradients, means, squares = arrays
        settings = AdamSettings(self.lr, self.betas, self.eps, **weight_decay)
        adam.step(parameters, means, squares, gradients, t=self.steps, settings=settings)


class AdamW(Adam):
    """Adam with decoupled weight decay: p = p - lr weight_decay p before each step; the gradient is not changed.

    In Adam, weight decay is a part of the gradient and divided by sqrt(v) like the rest, so weights with large
    gradients hardly decay. Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2.

    decay_biases: if False, parameters with one axis (biases) do not decay; their decay seldom helps.
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

    def _update(self, *arrays: list[Any]) -> None:
        of_parameters = list(zip(*arrays))  # parameter, gradient and slots together
        decaying = [a for a in of_parameters if a[0].ndim > 1 or self.decay_biases]
        others = [a for a in of_parameters if not (a[0].ndim > 1 or self.decay_biases)]
        for group, weight_decay in ((decaying, self.weight_decay), (others, 0.0)):
            if group:
                self._adam(list(zip(*group)), decoupled_weight_decay=weight_decay)
