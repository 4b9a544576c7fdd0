"""Batches in a seeded order, prepared ahead of time by threads."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice, repeat
from typing import Any

import numpy as np

from ..engine.foreign import CallsExplained
from ..engine.random import new_stream
from ..errors import DataError

# The two uses of random numbers: order and items never share a stream.
_ORDER, _ITEM = 0, 1


def stack(items: Sequence[Any]) -> Any:
    """The default collation: n items become one batch of the items' structure, whose arrays have n as first axis.

    Items are arrays, numbers, texts, or tuples, lists and dicts of these: n items (image, target) become (images,
    targets), n items {"image": ..., "label": ...} become {"image": images, "label": labels}. Raises DataError if the
    items have different structures or shapes, or hold something else.
    """
    different = list(dict.fromkeys(_form(item) for item in items))
    if len(different) > 1:
        raise DataError(
            f"DataLoader: the items of a batch differ: {different[0]} and {different[1]}; make them alike, or pass "
            "collate= to join them in another way"
        )
    first = items[0]
    if isinstance(first, dict):
        return {key: stack([item[key] for item in items]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(stack(part) for part in zip(*items))
    batch = np.stack([np.asarray(item) for item in items])
    if batch.dtype.kind not in "biufcSU":
        raise DataError(
            f"DataLoader: an item holds a {type(first).__name__}; arrays, numbers, texts, or tuples, lists and dicts "
            "of these are needed. For anything else, pass collate="
        )
    return batch


def _form(item: Any) -> str:
    """What must be the same for all items of a batch."""
    if isinstance(item, dict):
        return f"a dict with {', '.join(sorted(map(str, item)))}"
    if isinstance(item, (tuple, list)):
        return f"a tuple of {len(item)}"
    array = np.asarray(item)
    return f"{'text' if array.dtype.kind in 'SU' else 'values'} of shape {array.shape}"


class AugmentedImages:
    """Images and their labels as a data set for a `DataLoader`, each image changed at random whenever it is asked for.

    images: (N, ...). labels: (N, ...). augment: called with an image and a random generator; returns the changed image.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, augment: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    ) -> None:
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(the changed image, its label)."""
        return self.augment(self.images[index], rng), self.labels[index]


class DataLoader(CallsExplained):
    """Iterates over a data set in batches, in a new seeded order every epoch.

        for images, targets in DataLoader(dataset, batch_size=8, seed=0): ...

    A data set has `__len__` and `item(index, rng)`, which returns a tuple of arrays and takes all its randomness from
    `rng`, a NumPy Generator. A plain sequence of tuples works too, and so does an array: its items are its rows.
    Items may be dicts as well; `stack` says how a batch is made of them.

    seed: by default the next stream of `tn.seed`, so two loaders have different orders.

    The order depends only on (seed, epoch), and an item's generator only on (seed, epoch, index). So the number of
    workers has no influence, and a run that is resumed at an epoch sees the same bits as an uninterrupted run. `epoch`
    is the epoch of the next loop: save it, and set it to resume. `batches(epoch, start)` resumes within an epoch.

    `workers` threads prepare batches while the caller trains; with 0 the caller's thread prepares them. `item` should
    spend its time in NumPy, SciPy and Pillow, which let other threads run meanwhile. The last batch may be smaller;
    with drop_last it is left out.

    Raises `ValueError` for a wrong setting, `TypeError` for a data set without items, `DataError` with the number of
    the item if `item` fails, and `DataError` if the items of a batch do not fit together.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        shuffle: bool = True,
        seed: int | None = None,
        workers: int = 1,
        collate: Callable[[list], Any] = stack,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"DataLoader: batch_size {batch_size}; need 1 or more")
        if workers < 0:
            raise ValueError(f"DataLoader: workers {workers}; need 0 or more")
        has_items = hasattr(dataset, "__len__") and (hasattr(dataset, "__getitem__") or hasattr(dataset, "item"))
        if not has_items or (isinstance(dataset, tuple) and all(hasattr(a, "shape") for a in dataset)):
            raise TypeError(
                f"DataLoader: the dataset is a {type(dataset).__name__}; a sequence of items, for example "
                "list(zip(images, labels)), or an object with __len__ and item(index, rng) is needed"
            )
        if len(dataset) == 0:
            raise ValueError("DataLoader: the dataset is empty; need at least one item")
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.seed, self.workers, self.collate = new_stream() if seed is None else seed, workers, collate
        self.drop_last, self.epoch = drop_last, 0
        if len(self) == 0:
            raise ValueError(f"DataLoader: drop_last leaves no batch: {len(dataset)} items, batch_size {batch_size}")

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return (len(self.dataset) + (0 if self.drop_last else self.batch_size - 1)) // self.batch_size

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        self.epoch += 1
        return self.batches(epoch)

    def steps(self, count: int) -> Iterator[Any]:
        """The next `count` batches: epoch after epoch, each in a new order."""
        return islice(chain.from_iterable(repeat(self)), count)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of one epoch, from number `start` on."""
        with contextlib.closing(self.shares(epoch, start, lambda total: slice(0, total))) as shares:
            for _, batch in shares:
                yield batch

    def shares(self, epoch: int, start: int, own: Callable[[int], slice]) -> Generator[tuple[int, Any], None, None]:
        """(its length, the own part) of each batch of one epoch; other parts are not prepared.

        own: from the length of a batch to the slice of it that is wanted; the part is None if the slice is empty.
        """
        order = self._order(epoch)
        whole = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(start, len(self))]
        parts = [(len(indices), indices[own(len(indices))]) for indices in whole]
        if self.workers == 0:
            yield from ((total, self._make(epoch, indices)) for total, indices in parts)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="DataLoader")
        try:
            waiting: deque = deque()
            for total, indices in parts:
                waiting.append((total, pool.submit(self._make, epoch, indices)))
                if len(waiting) > 2 * self.workers:  # so many batches ahead are enough, and bound the memory
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
        finally:  # after `break` or an error in the caller's loop too
            pool.shutdown(wait=True, cancel_futures=True)

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return self._generator(epoch, _ORDER).permutation(len(self.dataset))

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key)))

    def _make(self, epoch: int, indices: np.ndarray) -> Any:
        if len(indices) == 0:
            return None
        return self.collate([self._item(epoch, int(index)) for index in indices])

    def _item(self, epoch: int, index: int) -> Any:
        try:
            if hasattr(self.dataset, "item") and not hasattr(self.dataset, "shape"):  # arrays have another `item`
                return self.dataset.item(index, self._generator(epoch, _ITEM, index))
            return self.dataset[index]
        except Exception as error:
            raise DataError(f"DataLoader: item {index} failed: {type(error).__name__}: {error}") from error


def _result(total: int, future: Future) -> tuple[int, Any]:
    return total, future.result()
