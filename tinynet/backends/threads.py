"""How many threads the kernels of the CPU use, and which cores there are for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# A launcher of MPI programs sets one of these: Hydra (MPICH, Intel MPI), Open MPI, PMIx (srun).
LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK")


def is_rank() -> bool:
    """True if mpiexec started this process, as one of several that share the cores."""
    return any(name in os.environ for name in LAUNCHED)


def set_threads(count: int) -> None:
    """Let the kernels that this thread starts use `count` threads, at least 1.

    Raises ValueError if there are fewer: one for each core, or NUMBA_NUM_THREADS if the environment sets it.
    """
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= count <= most:
        raise ValueError(f"threads is {count}; it must lie in 1 .. {most} (the cores, or NUMBA_NUM_THREADS)")
    numba.set_num_threads(count)


@contextlib.contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Inside, the kernels that this thread starts use `count` threads; None changes nothing. Raises ValueError."""
    if count is None:
        yield
        return
    import numba

    before = numba.get_num_threads()
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)
