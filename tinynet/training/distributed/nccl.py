"""The exchange of gradients between GPUs, each of which belongs to one rank, by NCCL through CuPy."""

from __future__ import annotations

from typing import Any

from ...backends.arrays import array_module, device_of
from .ranks import MPIWorld


class NcclWorld(MPIWorld):
    """Ranks with a GPU each. Messages, and arrays of the CPU, still go by MPI."""

    _nccl: Any = None  # NCCL's communicator, made at the first exchange of arrays on GPUs

    def add(self, array: Any) -> None:
        """As `MPIWorld.add`: rank r receives slice r of every rank, adds in rank order and sends the sum to all."""
        if device_of(array) == "cpu":
            super().add(array)
            return
        from cupy.cuda import get_current_stream, nccl

        if self._nccl is None:
            key = self._arrays.bcast(nccl.get_unique_id() if self.rank == 0 else None)
            self._nccl = nccl.NcclCommunicator(self.size, key, self.rank)
        ranks, stream = self._nccl, get_current_stream()
        received = array_module(array).empty_like(array)
        count = array.size // self.size
        kind = {"f": nccl.NCCL_FLOAT32, "d": nccl.NCCL_FLOAT64}[array.dtype.char]
        nccl.groupStart()
        for rank in range(self.size):
            place = slice(rank * count, (rank + 1) * count)
            ranks.send(array[place].data.ptr, count, kind, rank, stream.ptr)
            ranks.recv(received[place].data.ptr, count, kind, rank, stream.ptr)
        nccl.groupEnd()
        total, *others = received.reshape(self.size, -1)
        for part in others:
            total += part
        ranks.allGather(total.data.ptr, array.data.ptr, count, kind, stream.ptr)
        stream.synchronize()  # only then may `received` be freed
