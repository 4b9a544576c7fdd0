"""The processes that train together, and what they exchange. A process's number is its *rank*."""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import numpy as np

from ...backends.devices import to_device

# MPI waits in a busy loop, which would take a core from the kernels. Waiting ranks test for this long, then sleep.
SECONDS_OF_TESTING, SECONDS_OF_SLEEP = 2e-4, 5e-4


class World:
    """One rank alone: every exchange returns what was given.

    rank: the number of this process, from 0. size: how many processes there are.
    """

    rank, size = 0, 1

    @property
    def name(self) -> str:
        """This rank in messages."""
        return f"rank {self.rank} of {self.size} on {socket.gethostname()}"

    def gather(self, message: Any) -> list[Any]:
        """The messages of all ranks in rank order. Each rank calls it with its own."""
        return [message]

    def broadcast(self, message: Any) -> Any:
        """The message of rank 0, on every rank. The messages of the other ranks are ignored."""
        return message

    def add(self, array: Any) -> None:
        """Replace a flat array, whose length is a multiple of `size`, by its sum over all ranks.

        Every element is added in rank order, so the result has the same bits on every rank and in every run. One
        thread may call it while another calls `gather`.
        """

    def abort(self, code: int) -> None:
        """End all other ranks, which may wait for this one, and then this process with this exit code."""


class MPIWorld(World):
    """The ranks that mpiexec started. comm: an mpi4py communicator."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        # Messages and arrays are exchanged by two threads at once, so each kind needs a communicator of its own.
        self._messages, self._arrays = comm.Dup(), comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def gather(self, message: Any) -> list[Any]:
        _wait(self._messages.Ibarrier())  # so that no rank waits in the busy loop of allgather
        return self._messages.allgather(message)

    def broadcast(self, message: Any) -> Any:
        _wait(self._messages.Ibarrier())
        return self._messages.bcast(message)

    def add(self, array: Any) -> None:
        """Rank r receives slice r of every rank, adds them in rank order and sends the sum to all.

        `Allreduce` would be one call, but MPI leaves the order of its additions open. Each rank sends and receives
        2 (size - 1) / size times the array, which is the least that any method needs.
        """
        own = to_device(array, "cpu")
        received = np.empty_like(own)
        _wait(self._arrays.Ialltoall(own, received))
        total, *others = received.reshape(self.size, -1)
        for part in others:
            total += part
        _wait(self._arrays.Iallgather(total, own))
        if own is not array:
            array[...] = to_device(own, "cuda")

    def abort(self, code: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._comm.Abort(code)


def _wait(request: Any) -> None:
    """Wait for an exchange; after a short while without a busy loop."""
    until = time.perf_counter() + SECONDS_OF_TESTING
    while not request.Test():
        if time.perf_counter() > until:
            time.sleep(SECONDS_OF_SLEEP)
