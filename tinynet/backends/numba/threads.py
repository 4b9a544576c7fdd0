"""Two things that Numba's threads cannot do, before they do harm.

*Fork.* The threads do not exist in a forked process. With GNU's OpenMP, Linux's usual layer, the first parallel kernel
there ends the process, and `multiprocessing.Pool` waits forever for its answer. Here the kernel raises an error.

*Two callers.* If neither OpenMP nor TBB is installed, Numba's own layer `workqueue` aborts when two threads of the
program call kernels at once. Here the second caller waits for the first.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
from numba.np.ufunc import parallel

from ...errors import BackendError
from .workers import start_workers

FORKED = (
    "this process was forked from one that had run kernels, and Numba's threads do not survive a fork. Start processes "
    'with multiprocessing.get_context("spawn"), or run the first kernel after the fork'
)
_one_kernel_at_a_time = threading.RLock()
_forked = False


@functools.cache
def _layer(forget: Callable[[], None]) -> str:
    """The threading layer, whose threads run from now on. forget: called in a forked process."""

    def note_fork() -> None:
        global _forked
        _forked = True
        forget()

    parallel._launch_threads()
    start_workers()
    if numba.threading_layer() == "omp" and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=note_fork)
    return numba.threading_layer()


def guarded(kernel: Callable, forget: Callable[[], None]) -> Callable:
    """The kernel as the threading layer needs it. Raises BackendError in a forked process.

    forget: a function that makes the caller drop the kernels that it has looked up; a forked process calls it.
    """
    if _forked:
        raise BackendError(FORKED)
    if _layer(forget) != "workqueue":
        return kernel

    @functools.wraps(kernel)
    def waiting(*arguments: Any, **parameters: Any) -> Any:
        with _one_kernel_at_a_time:
            return kernel(*arguments, **parameters)

    return waiting
