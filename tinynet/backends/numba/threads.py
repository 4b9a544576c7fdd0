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
from .. import registry

FORKED = (
    "this process was forked from one that had run kernels, and Numba's threads do not survive a fork. Start processes "
    'with multiprocessing.get_context("spawn"), or run the first kernel after the fork'
)


def prepare() -> None:
    """Start the threads and install what the layer needs. To be called once, before the first kernel."""
    parallel._launch_threads()
    if numba.threading_layer() == "workqueue":
        registry.cpu_guard = functools.partial(_one_at_a_time, threading.RLock())
    if numba.threading_layer() == "omp" and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_refuse_kernels)


def _one_at_a_time(lock: threading.RLock, kernel: Callable) -> Callable:
    """The kernel, which waits until no other thread runs one."""

    @functools.wraps(kernel)
    def waiting(*arguments: Any, **parameters: Any) -> Any:
        with lock:
            return kernel(*arguments, **parameters)

    return waiting


def _refuse_kernels() -> None:
    """In a forked process: no kernel that was found before is used again, and looking for one raises BackendError."""

    def refused(kernel: Callable) -> Callable:
        raise BackendError(FORKED)

    registry.cpu_guard = refused
    registry.implementation_kernel.cache_clear()
