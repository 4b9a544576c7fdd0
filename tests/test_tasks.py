"""`in_parallel`: each task runs once, on all threads and under every threading layer, also from the compile cache."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from tinynet.backends.numba.jit import jit
from tinynet.backends.numba.tasks import in_parallel


@jit(separate=True)
def count(task, step, place, counts):
    """place: a tuple with numbers of two types, as a NamedTuple of a kernel is."""
    counts[task + place[0]] += np.int64(step * place[1])


@jit
def count_all(tasks, step, place, counts):
    in_parallel(count, tasks, (step, place, counts))


@jit(separate=True)
def take(task, n, x):
    x[task] = np.empty(n)[0]


@jit
def take_all(n, x):
    in_parallel(take, len(x), (n, x))


@pytest.mark.parametrize("threads", [1, numba.config.NUMBA_NUM_THREADS])
@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 1000])
def test_each_task_runs_once(tasks, threads):
    counts, before = np.zeros(1002, np.int64), numba.get_num_threads()
    try:
        numba.set_num_threads(threads)
        count_all(tasks, 3, (1, 2.0), counts)
    finally:
        numba.set_num_threads(before)
    assert (counts[1 : tasks + 1] == 6).all()
    assert counts.sum() == 6 * tasks


def test_a_task_without_memory_is_an_error():
    take_all(4, np.zeros(5))
    with pytest.raises(MemoryError, match="no memory for a task of a kernel"):
        take_all(1 << 50, np.zeros(5))


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import numba, numpy as np
from test_tasks import count_all
counts = np.zeros(100, np.int64)
count_all(99, 1, (1, 1.0), counts)
assert counts[0] == 0 and (counts[1:] == 1).all()
print(numba.threading_layer())
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_every_layer_compiles_the_tasks_and_finds_them_in_the_cache(layer, tmp_path):
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "TINYNET_CACHE": str(tmp_path)}
    for _ in range(2):
        command = [sys.executable, "-c", PROGRAM, os.path.dirname(__file__)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if layer == "omp" and "threading layer" in done.stderr:
            pytest.skip("OpenMP is not installed")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [layer]
