"""The parts of a batch: which samples belong to which part, and sums over all parts."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ...engine.share import Share, inside
from .ranks import World

Result = TypeVar("Result")
DIFFERENT_SUMS = (
    "the ranks, or the parts of one rank, ask for different numbers of sums over the batch: is the model the same on "
    "all ranks, and does the loss compute the same operations for all samples?"
)


def boundaries(total: int, parts: int) -> list[int]:
    """Where each of the parts of a batch starts, and the end of the last. Sizes differ by one sample at most.

    If there are fewer samples than parts, the last parts are empty.
    """
    small, larger = divmod(total, parts)
    return [k * small + min(k, larger) for k in range(parts + 1)]


class SumNeeded(BaseException):
    """A part needs a sum over the batch whose other terms are not computed yet. Not an error, so not an Exception."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values


@dataclass
class Finished:
    """The last message of a rank in a step.

    loss: its share of the mean loss. total: samples of the global batch. note: see `DataParallel.backward`.
    idle: True for a rank without samples, which sends this message whenever the others exchange sums.
    """

    loss: float
    total: int
    note: Any
    idle: bool


class BatchSums:
    """Sums over all parts of a batch, in the order in which the forward and the backward pass ask for them.

    A rank with one part waits for the other ranks when it asks. A rank with several parts computes one after the other,
    so it cannot wait: the first time, `SumNeeded` stops the part that asks. When all parts have asked, the sum is
    known, and the parts start again.
    """

    def __init__(self, ranks: World, own_parts: int) -> None:
        self._ranks, self._own_parts = ranks, own_parts
        self._known: list[np.ndarray] = []
        self._asked = 0

    def start(self) -> None:
        """A part starts, or starts again."""
        self._asked = 0

    def add(self, values: np.ndarray) -> np.ndarray:
        """The sum over all parts of what they ask for at this place. Raises SumNeeded."""
        if self._asked == len(self._known):
            if self._own_parts > 1:
                raise SumNeeded(values)
            self.exchange([values])
        self._asked += 1
        return self._known[self._asked - 1]

    def exchange(self, values: list[np.ndarray]) -> None:
        """Add the values of all parts of all ranks, in the order of the parts. values: of the parts of this rank."""
        messages = self._ranks.gather(values)
        if any(isinstance(message, Finished) and not message.idle for message in messages):
            raise RuntimeError(DIFFERENT_SUMS)
        terms = [term for message in messages if isinstance(message, list) for term in message]
        self._known.append(functools.reduce(operator.add, terms))

    def finish(self, last: Finished) -> list[Finished]:
        """Send the last message of this rank, and return those of all ranks."""
        while True:
            messages = self._ranks.gather(last)
            if all(isinstance(message, Finished) for message in messages):
                return messages
            if not last.idle:
                raise RuntimeError(DIFFERENT_SUMS)


def run_parts(
    run: Callable[[Any], Result], parts: Sequence[tuple[Share, Any]], sums: BatchSums, restore: Callable[[], None]
) -> list[Result]:
    """The results of run(arrays) for each part, inside its share, to which `sums.add` is added.

    If a sum over the batch is missing, all parts run again. A loss with one such sum, like the Dice loss of a batch, so
    costs one more forward pass; each batch norm costs a forward and a backward pass up to its place.
    restore: called before each start of a part; it restores what a forward pass changes, such as dropout's counter.
    """
    while True:
        results, missing = [], []
        for share, arrays in parts:
            restore()
            sums.start()
            try:
                with inside(dataclasses.replace(share, add=sums.add)):
                    results.append(run(arrays))
            except SumNeeded as request:
                missing.append(request.values)
        if not missing:
            return results
        if results:
            raise RuntimeError(DIFFERENT_SUMS)
        sums.exchange(missing)
