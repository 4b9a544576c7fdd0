"""The exponential moving average (EMA) of a model's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...backends.devices import to_device
from ...engine.tensor import no_grad
from ..module import Module
from ._checks import check_unit


class WeightAverage:
    """An exponential moving average (EMA) of a model's weights, often better on new data than the last weights.

        average = average + (1 - d) (weights - average),   d = min(decay, t / (t + 9)) at update t

    The average remembers about 1 / (1 - decay) updates. The smaller d at the start keeps the initial weights from
    dominating. Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992, with an exponential
    window.

        average = WeightAverage(model, 0.999)
        ...; optimizer.step(); average.update()
        with average.applied():
            evaluate(model)          # or save its weights
    """

    def __init__(self, model: Module, decay: float = 0.999) -> None:
        check_unit("WeightAverage", decay=decay)
        self.model, self.decay, self.updates = model, decay, 0
        self._averages = {name: p.data.copy() for name, p in model.named_parameters()}

    def update(self) -> None:
        """Add the model's weights to the average. Call it after each `optimizer.step()`.

        Raises ValueError if the model has other parameters than before.
        """
        self.updates += 1
        d = min(self.decay, self.updates / (self.updates + 9))
        for name, p in self.model.named_parameters():
            average = self._averages.get(name)
            if average is None or average.shape != p.shape:
                raise ValueError(
                    f"WeightAverage: {name} of shape {p.shape} is new; create the average after the last layer"
                )
            change = p.data - average
            change *= 1 - d
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
        """{"updates", "averages": {name of the parameter: array}}; the arrays are NumPy copies."""
        averages = {name: np.array(to_device(a, "cpu")) for name, a in self._averages.items()}
        return {"updates": self.updates, "averages": averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state dict. Raises ValueError if it is of another model."""
        averages = state["averages"]
        shapes = {name: p.shape for name, p in self.model.named_parameters()}
        wrong = [n for n in {**shapes, **averages} if n not in averages or np.shape(averages[n]) != shapes.get(n)]
        if wrong:
            raise ValueError(f"WeightAverage: the state is of another model; it differs in {', '.join(wrong)}")
        for name, p in self.model.named_parameters():
            self._averages[name] = to_device(np.array(averages[name], dtype=p.dtype), p.device)
        self.updates = int(state["updates"])
