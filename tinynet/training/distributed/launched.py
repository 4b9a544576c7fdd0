"""Which processes train together: found out once, from what mpiexec leaves in the environment.

`mpiexec -n 4 python script.py` starts four ranks. Without mpiexec there is one rank, and MPI is not loaded.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from types import TracebackType
from typing import Any

from ...backends.threads import is_rank, set_threads, usable_cores
from ...errors import UsageError, how_to_install
from .nccl import NcclWorld
from .ranks import MPIWorld, World


@functools.cache
def world() -> World:
    """The ranks of this run: those that mpiexec started, or this process alone.

    With several ranks, the cores of a machine are divided among its ranks (unless NUMBA_NUM_THREADS is set), only
    rank 0 prints (`sys.stdout` of the others goes nowhere), and an exception that a rank does not catch ends all ranks.
    Raises UsageError if mpi4py is missing under mpiexec, or if its MPI library allows no exchange from two threads.
    """
    if not is_rank():
        return World()
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise UsageError(
            f"started by mpiexec, but mpi4py cannot be used ({error}): install it with {how_to_install('mpi')}"
        ) from None
    comm = MPI.COMM_WORLD
    if comm.Get_size() == 1:
        return World()
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise UsageError(
            "this MPI library was built without MPI_THREAD_MULTIPLE, but a thread of its own exchanges the gradients: "
            f"install the library of {how_to_install('mpi')}"
        )
    here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    if "NUMBA_NUM_THREADS" not in os.environ:
        set_threads(max(1, usable_cores() // here.Get_size()))
    ranks = _world_of(comm, here)
    if ranks.rank > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (until the end of the process)
    sys.excepthook = functools.partial(_end_all, ranks)
    return ranks


def _world_of(comm: Any, here: Any) -> World:
    """The ranks of a communicator. here: the communicator of the ranks on this machine.

    If there is a GPU for each rank here, the rank sees its GPU only, and gradients are exchanged by NCCL.
    """
    gpus = _visible_gpus()
    if not 1 < here.Get_size() <= len(gpus):
        return MPIWorld(comm)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[here.Get_rank()]  # CUDA reads it when it is first used
    return NcclWorld(comm)


def _visible_gpus() -> list[str]:
    """The GPUs of this machine as CUDA names them; none where the driver does not list them (it does on Linux)."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    folder = "/proc/driver/nvidia/gpus"
    return [str(i) for i in range(len(os.listdir(folder)))] if os.path.isdir(folder) else []


def _end_all(ranks: World, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End every rank after an exception of this one: the others would wait for it forever."""
    print(f"{ranks.name} failed:", file=sys.stderr)
    traceback.print_exception(kind, error, trace)
    ranks.abort(1)
