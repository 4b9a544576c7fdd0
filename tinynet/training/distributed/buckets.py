"""Gradients in flat arrays, each added over all ranks as soon as it is complete, while the backward pass goes on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ...backends.arrays import array_module
from ...backends.devices import to_device
from ...engine.tensor import Tensor
from .ranks import World

# Every exchange has a fixed cost, so buckets must not be small. The last one is exchanged after the backward pass, so
# they must not be large either. The gradients of the small U-Net, 7.8 MB, fill eight.
BUCKET_BYTES = 1 << 20


class Bucket:
    """The gradients of some parameters, one after the other, then for each parameter 1 if it has a gradient, else 0.

    length: of `array`; it is a multiple of the number of ranks.
    """

    def __init__(self, parameters: dict[int, Tensor], ranks: int) -> None:
        like = next(iter(parameters.values())).data
        self.places, end = {}, 0
        for i, p in parameters.items():
            self.places[i] = slice(end, end + p.size)
            end += p.size
        self.flags = slice(end, end + len(parameters))
        end += len(parameters)
        self.array = array_module(like).zeros(end + -end % ranks, like.dtype)
        self.missing: set[int] = set()

    def put(self, i: int, gradient: Any) -> None:
        """Store the gradient of parameter i; None if it has none."""
        self.array[self.places[i]] = 0 if gradient is None else gradient.reshape(-1)
        self.array[self.flags][list(self.places).index(i)] = gradient is not None
        self.missing.discard(i)


class Buckets:
    """The gradients of a model, and their sums over all ranks.

    parameters: of the model, in its order. The backward pass reaches them roughly in the opposite order, so the first
    bucket holds the last parameters.
    """

    def __init__(self, parameters: Sequence[Tensor], ranks: World) -> None:
        self.parameters, self._ranks = parameters, ranks
        self._buckets = [Bucket(group, ranks.size) for group in _groups(parameters)]
        self._bucket_of = {i: bucket for bucket in self._buckets for i in bucket.places}
        # One thread, so that all ranks exchange the buckets in the same order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gradients")
        self._exchanges: list[Future] = []

    def put(self, i: int, gradient: Any) -> None:
        """Store the complete gradient of parameter i (an array, or None), and start the exchanges that can start."""
        self._bucket_of[i].put(i, gradient)
        while len(self._exchanges) < len(self._buckets) and not self._buckets[len(self._exchanges)].missing:
            bucket = self._buckets[len(self._exchanges)]
            self._exchanges.append(self._thread.submit(self._ranks.add, bucket.array))

    def start(self) -> None:
        """A new step begins: no gradient is here yet."""
        self._exchanges.clear()
        for bucket in self._buckets:
            bucket.missing = set(bucket.places)

    @contextlib.contextmanager
    def filled_by_hooks(self) -> Iterator[None]:
        """Inside, a backward pass puts the gradient of each parameter here as soon as it is complete."""
        trained = [(i, p) for i, p in enumerate(self.parameters) if p.requires_grad]
        removes = [p.register_hook(functools.partial(self._put_tensor, i)) for i, p in trained]
        try:
            yield
        finally:
            for remove in removes:
                remove()

    def _put_tensor(self, i: int, gradient: Tensor) -> None:
        self.put(i, gradient.data)

    def collect(self) -> None:
        """Wait until all gradients are added, and make the sums the gradients of the parameters.

        A parameter that no rank has a gradient for gets None.
        """
        for bucket in self._buckets:
            for i in sorted(bucket.missing):
                self.put(i, None)
        for exchange in self._exchanges:
            exchange.result()
        for bucket in self._buckets:
            flags = to_device(bucket.array[bucket.flags], "cpu")
            for (i, place), has_gradient in zip(bucket.places.items(), flags):
                p = self.parameters[i]
                # A view: the next step overwrites it.
                p.grad = Tensor(bucket.array[place].reshape(p.shape)) if has_gradient else None


def _groups(parameters: Sequence[Tensor]) -> list[dict[int, Tensor]]:
    """The parameters, last first, in groups of one dtype and about `BUCKET_BYTES`."""
    groups: list[dict[int, Tensor]] = []
    room = 0
    for i in reversed(range(len(parameters))):
        p = parameters[i]
        nbytes = p.size * p.dtype.itemsize
        if not groups or nbytes > room or p.dtype != next(iter(groups[-1].values())).dtype:
            groups.append({})
            room = BUCKET_BYTES
        groups[-1][i] = p
        room -= nbytes
    return groups
