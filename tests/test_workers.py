"""The workers: each task runs once, whoever comes late, sleeps, or is one of too many for the cores."""

import threading

import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from processes import python

from tinynet.backends.numba.jit import jit
from tinynet.backends.numba.tasks import in_parallel
from tinynet.backends.numba.words import cycles
from tinynet.backends.numba.workers import HAS_WORKERS, start_workers

pytestmark = pytest.mark.skipif(not HAS_WORKERS, reason="this system has no workers")


@intrinsic
def this_thread(typing_context):
    """A number that is different in each thread."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(64), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "pthread_self"), [])

    return types.int64(), generate


@jit(separate=True)
def note(task, duration, counts, threads):
    """Count the task, and keep its thread busy for so many cycles of the clock."""
    counts[task] += 1
    threads[task] = this_thread()
    start = cycles()
    while cycles() - start < duration:
        pass


@jit(nogil=True)
def note_all(tasks, duration, counts, threads):
    in_parallel(note, tasks, (duration, counts, threads))


def kernels_of_all_sizes(seed, kernels=3000):
    """Start kernels with 0 to 39 tasks of all lengths. Return an error, or None."""
    rng = np.random.default_rng(seed)
    threads = np.zeros(40, np.int64)
    for tasks, duration in zip(rng.integers(0, 40, kernels), rng.choice([0, 100, 10_000], kernels)):
        counts = np.zeros(40, np.int64)
        note_all(tasks, duration, counts, threads)
        if not ((counts[:tasks] == 1).all() and (counts[tasks:] == 0).all()):
            return f"{tasks} tasks ran {counts} times"
    return None


def test_each_task_runs_once_also_if_threads_start_kernels_at_once():
    start_workers()
    errors = []
    callers = [threading.Thread(target=lambda s=s: errors.append(kernels_of_all_sizes(s))) for s in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert errors == [None] * 3


MANY_WORKERS = """
import sys, threading, time
sys.path.insert(0, "tests")
import numba, numpy as np
from test_workers import kernels_of_all_sizes, note_all, start_workers
assert numba.config.NUMBA_NUM_THREADS == 9
callers = [threading.Thread(target=start_workers) for _ in range(3)]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
assert sum("tinynet worker" in thread.name for thread in threading.enumerate()) == 8
assert kernels_of_all_sizes(0, 10_000) is None
found = {}
for wanted in (1, 3, 9):
    numba.set_num_threads(wanted)
    found[wanted] = 0
    for pause in (0.01, 0.0) * 5:  # time to fall asleep, or not
        time.sleep(pause)
        counts, threads = np.zeros(90, np.int64), np.zeros(90, np.int64)
        note_all(90, 1_000_000, counts, threads)
        assert (counts == 1).all()
        found[wanted] = max(found[wanted], len(set(threads)))
print(found[1], 1 < found[3] <= 3, 1 < found[9] <= 9)
"""


def test_more_workers_than_cores_of_which_a_kernel_may_want_some_only():
    """The process also ends, although workers wait in it."""
    assert python(MANY_WORKERS, NUMBA_NUM_THREADS="9") == "1 True True"
