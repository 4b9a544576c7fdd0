"""The share of a global batch that operations see.

Data-parallel training splits each batch over several processes, and gradient accumulation over several passes. Each
of these *parts* computes the loss of its own samples, and the loss of the global batch is the mean over the parts,
weighted by their numbers of samples. Most operations treat every sample on its own, so they need not know. These do:

- Dropout draws the mask of a sample from the sample's place in the global batch.
- Batch norm, the Dice losses of a batch and weighted means need sums over all samples. Each part computes its own sums,
  and `Share.sum` adds the sums of all parts.

So the result does not depend on how a batch is split, apart from rounding errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.arrays import device_of
from ..backends.context import set_inside
from ..backends.devices import to_device
from .tensor import Function, Tensor


@dataclass(frozen=True)
class Share:
    """One part of a global batch.

    first: the place of its first sample in the batch. count: its samples. total: the samples of the batch.
    add: takes a float64 array of this part and returns the sum over all parts, which must call it in the same order.
    None if this part is the whole batch.
    """

    first: int = 0
    count: int = 1
    total: int = 1
    add: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def is_whole(self) -> bool:
        """True if the batch is not split."""
        return self.add is None

    @property
    def weight(self) -> float:
        """The weight of this part's mean in the mean over the batch."""
        return self.count / self.total

    def first_element(self, shape: tuple[int, ...]) -> int:
        """The index in the global batch of element 0 of an array of this shape, whose first axis counts the samples."""
        if self.first == 0:
            return 0
        if not shape or shape[0] % self.count:
            raise ValueError(
                f"an array of shape {shape} in a part of {self.count} samples: where a batch is split over processes "
                "or passes, the first axis of an activation with dropout must count the samples"
            )
        return self.first * (int(np.prod(shape)) // self.count)

    def sum(self, values: Any) -> Any:
        """The sum of an array over all parts, computed in float64; shape, dtype and device stay."""
        if self.add is None:
            return values
        total = self.add(np.asarray(to_device(values, "cpu"), np.float64))
        return to_device(total.astype(values.dtype), device_of(values))

    def refuse_second_derivatives(self, op: str) -> None:
        """Raise RuntimeError if the batch is split: second derivatives of sums over the batch are not implemented."""
        if not self.is_whole:
            raise RuntimeError(
                f"{op}: second derivatives (create_graph=True) need the whole batch in one pass, because the operation "
                "sums over the batch: train without mpiexec and with accumulate=1"
            )


WHOLE = Share()
_share: ContextVar[Share] = ContextVar("share", default=WHOLE)


def inside(share: Share) -> contextlib.AbstractContextManager[None]:
    """Inside `with inside(share):` operations see this part of a batch."""
    return set_inside(_share, share)


def current() -> Share:
    """The part that operations see now: `WHOLE`, or a part if the batch is split."""
    return _share.get()


class SumOverBatch(Function):
    """The sum of x over all parts, each of which then computes the same loss from it.

    The loss of a part counts with its weight, so gy is weight * dL/dsum, but dL/dx = dL/dsum.
    """

    def forward(self, x):
        self.share = current()
        return self.share.sum(x)

    def backward(self, gy):
        return gy / self.share.weight

    def backward_graph(self, gy):
        self.share.refuse_second_derivatives("a sum over the batch")
        return self.backward(gy)


def sum_over_batch(x: Tensor) -> Tensor:
    """The sum of a Tensor over all parts of the batch, with its gradient."""
    return x if current().is_whole else SumOverBatch.apply(x)
