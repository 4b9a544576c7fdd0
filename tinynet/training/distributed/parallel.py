"""Loss and gradient of a batch that is split over processes (ranks), over passes (accumulation), or over both."""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backends.arrays import device_of
from ...backends.devices import to_device
from ...engine import share
from ...engine.foreign import CallsExplained
from ...engine.share import Share
from ...engine.share import sum_over_batch as sum_over_batch  # a part of tn.distributed
from ...engine.tensor import Tensor
from ...errors import TrainingError
from ...nn.module import Module
from .buckets import Buckets
from .launched import world
from .parts import BatchSums, Finished, boundaries, run_parts
from .ranks import World

Part = tuple[Share, Sequence[Tensor]]


class Step(NamedTuple):
    """What `DataParallel.backward` returns. loss: of the global batch. notes: of all ranks, in rank order."""

    loss: float
    notes: list[Any]


class DataParallel(CallsExplained):
    """Computes loss and gradients of global batches, of which every rank sees its share, `accumulate` passes for each.

    model: built alike on every rank; the weights and buffers of rank 0 replace those of the others.
    accumulate: into how many parts a rank splits its share. It computes one after the other, so only the activations of
    one part are in memory. ranks: by default those that mpiexec started.

    The gradient is the same for any split, up to rounding errors. It has the same bits for n ranks as for one rank that
    accumulates n parts, if each uses as many threads. Some operations need sums over the whole batch:
    `tinynet/engine/share.py` lists them, docs/distributed.md gives their cost.

    Source: Chainer's distributed training: Akiba et al., ChainerMN: Scalable Distributed Deep Learning Framework, 2017,
    sections 2 and 3.
    """

    def __init__(self, model: Module, accumulate: int = 1, ranks: World | None = None) -> None:
        if accumulate < 1:
            raise ValueError(f"DataParallel: accumulate is {accumulate}; at least 1 part is needed")
        self.model, self.accumulate = model, accumulate
        self.ranks = world() if ranks is None else ranks
        self._buckets: Buckets | None = None  # made when the model is on its device
        if self.ranks.size > 1:
            model.load_state_dict(self.ranks.broadcast(model.state_dict()))

    @property
    def parts(self) -> int:
        """Into how many parts a batch is split."""
        return self.ranks.size * self.accumulate

    def own_samples(self, total: int) -> slice:
        """The samples of this rank in a batch of `total` samples."""
        own = self._own_boundaries(total)
        return slice(own[0], own[-1])

    def batches(self, loader: Any, epoch: int, start: int = 0) -> Generator[tuple[int, Any], None, None]:
        """(samples of the global batch, the batch of this rank) for each batch of an epoch from number `start` on.

        loader: a DataLoader, which prepares the samples of this rank only, or another object with
        `batches(epoch, start)`, whose batches are cut. A rank gets None if there are too few samples for all ranks.
        """
        if hasattr(loader, "shares"):
            yield from loader.shares(epoch, start, self.own_samples)
            return
        with contextlib.closing(loader.batches(epoch, start)) as batches:
            for batch in batches:
                total = len(batch[0]) if isinstance(batch, (tuple, list)) else 0
                if self.parts > 1:
                    own = self.own_samples(total)
                    batch = [part[own] for part in batch] if own.start < own.stop else None
                yield total, batch

    def backward(
        self,
        loss: Callable[..., Tensor],
        batch: Sequence[Tensor] | None,
        total: int,
        note: Callable[[], Any] = lambda: None,
    ) -> Step:
        """Compute the mean loss of the global batch and the gradients of the parameters, equal on every rank.

        loss: called with Tensors of one part; it calls the model and returns the mean over the samples of the part.
        batch: the Tensors of this rank; None if it has no samples. total: the samples of the global batch.
        note: called at the end; returns something small for all ranks, such as "stop here".
        Raises RuntimeError if the ranks do not compute the same, and what `loss` raises.
        """
        for p in self.model.parameters():
            p.grad = None
        if self.parts == 1:
            assert batch is not None
            value = loss(*batch)
            value.backward()
            return Step(value.item(), [note()])
        parts = self.split(batch, total)
        sums = BatchSums(self.ranks, len(parts))
        own = self._compute(loss, parts, sums)
        messages = sums.finish(Finished(own, total, note(), idle=not parts))
        if len({message.total for message in messages}) > 1:
            raise RuntimeError(
                f"the ranks have batches of {', '.join(str(message.total) for message in messages)} samples: all need "
                "the same data and the same seed"
            )
        if any(message.idle for message in messages):  # dropout's counter went on in the ranks with samples only
            self.share_buffers()
        self._gradients().collect()
        return Step(sum(message.loss for message in messages), [message.note for message in messages])

    def share_buffers(self) -> None:
        """Give the buffers of rank 0, such as batch norm's averages and dropout's counters, to all ranks."""
        own = self.model.buffers()
        for buffer, of_rank_0 in zip(own, self.ranks.broadcast([to_device(buffer, "cpu") for buffer in own])):
            buffer[...] = to_device(of_rank_0, device_of(buffer))

    def check_equal_weights(self) -> None:
        """Raise TrainingError if a rank's weights or buffers are not those of rank 0, bit for bit."""
        state = self.model.state_dict() if self.ranks.size > 1 else {}
        sums = {name: zlib.crc32(np.ascontiguousarray(array).tobytes()) for name, array in state.items()}
        first, *others = self.ranks.gather(sums)
        for rank, other in enumerate(others, 1):
            if wrong := [name for name in first if first[name] != other[name]]:
                raise TrainingError(
                    f"{wrong[0]} of rank {rank} differs from rank 0, although both had the same gradients: does the "
                    "script change weights on one rank only? Are the machines, programs and libraries the same?"
                )

    def _own_boundaries(self, total: int) -> list[int]:
        """Where each part of this rank starts in a batch of `total` samples, and the end of the last."""
        first = self.ranks.rank * self.accumulate
        return boundaries(total, self.parts)[first : first + self.accumulate + 1]

    def split(self, batch: Sequence[Tensor] | None, total: int) -> list[Part]:
        """The parts of this rank that have samples, without `add` in their shares."""
        if batch is None:
            return []
        own = self._own_boundaries(total)
        for i, tensor in enumerate(batch if self.accumulate > 1 else ()):
            if tensor.ndim == 0 or len(tensor) != own[-1] - own[0]:
                raise ValueError(
                    f"DataParallel: array {i} of the batch has shape {tensor.shape}, but {own[-1] - own[0]} samples "
                    "are here; to split it into passes, the first axis of every array must count the samples"
                )
        parts = []
        for start, stop in itertools.pairwise(own):
            if stop > start:
                tensors = [tensor[start - own[0] : stop - own[0]] for tensor in batch] if self.accumulate > 1 else batch
                parts.append((Share(start, stop - start, total), tensors))
        return parts

    def _compute(self, loss: Callable[..., Tensor], parts: list[Part], sums: BatchSums) -> float:
        """The share of this rank in the mean loss. Its gradients go to the buckets."""
        buckets, parameters = self._gradients(), self.model.parameters()
        buckets.start()
        buffers = [buffer.copy() for buffer in self.model.buffers()]
        gradients: dict[int, Any] = {}  # sums over the parts so far, if there are several
        is_only_part = len(parts) == 1

        def restore() -> None:
            for buffer, before in zip(self.model.buffers(), buffers):
                buffer[...] = before

        def run(tensors: Sequence[Tensor]) -> float:
            for p in parameters:
                p.grad = None
            value = loss(*tensors) * share.current().weight
            with buckets.filled_by_hooks() if is_only_part else contextlib.nullcontext():
                value.backward()
            for i, p in enumerate(parameters if not is_only_part else ()):
                if p.grad is not None:
                    gradients[i] = gradients[i] + p.grad.data if i in gradients else p.grad.data
            return value.item()

        value = sum(run_parts(run, parts, sums, restore))
        for i in reversed(range(len(parameters) if not is_only_part else 0)):
            buckets.put(i, gradients.get(i))
        return value

    def _gradients(self) -> Buckets:
        """The buckets; made at the first step, when the model is on its device."""
        if self._buckets is None:
            self._buckets = Buckets(self.model.parameters(), self.ranks)
        return self._buckets
