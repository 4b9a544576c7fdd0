"""`in_parallel`: each task runs once, on all threads and under every threading layer, also from the compile cache."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinynet.backends.numba.jit import PACKAGE, jit
from tinynet.backends.numba.subnormals import IS_X86
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
    with pytest.raises(MemoryError, match="Allocation failed"):
        take_all(1 << 50, np.zeros(5))


@jit(separate=True)
def refuse(task, x, refused):
    if task == refused:
        raise ValueError("this one not")
    x[task] = 1


@jit
def refuse_one(x, refused):
    in_parallel(refuse, len(x), (x, refused))


@pytest.mark.parametrize("refused", [0, 3, 7])
def test_the_exception_of_a_task_is_raised_and_the_others_are_done(refused):
    x = np.zeros(8)
    with pytest.raises(ValueError, match="this one not"):
        refuse_one(x, refused)
    assert x.sum() == 7 and x[refused] == 0
    refuse_one(x, -1)
    assert x.sum() == 8


@intrinsic
def owner_of(typing_context, array):
    """The address of what counts the references to the memory of an array; 0 if nothing does."""

    def generate(context, builder, signature, arguments):
        lowered = context.make_array(array)(context, builder, arguments[0])
        return builder.ptrtoint(lowered.meminfo, ir.IntType(64))

    return types.int64(array), generate


@jit(separate=True)
def sum_of_views(task, both, scale, sums, owners):
    x, (y,) = both
    for i in range(len(x)):
        sums[task] += scale * (x[i : i + 1].sum() + y[i:][0])
    owners[task, 0], owners[task, 1], owners[task, 2] = owner_of(x), owner_of(y[1:]), owner_of(np.ones(3))


@jit
def sums_of_all(x, sums, owners):
    y = 2 * x  # lives in here only
    in_parallel(sum_of_views, len(sums), ((x, (y,)), 10.0, sums, owners))
    return owner_of(x)


def test_tasks_borrow_arrays_and_count_no_references():
    """Also in tuples, views of them, and arrays of the caller, which live until all tasks are done."""
    x, sums, owners = np.arange(5.0), np.zeros(100), np.zeros((100, 3), np.int64)
    references = sys.getrefcount(x)
    assert sums_of_all(x, sums, owners) != 0
    np.testing.assert_array_equal(sums, np.full(100, 10 * 3 * 10.0))
    assert (owners[:, :2] == 0).all() and (owners[:, 2] != 0).all()
    assert sys.getrefcount(x) == references


@jit(separate=True)
def multiply(task, x, factor, y):
    y[task] = x[task] * factor


@jit
def multiply_all(x, factor, y):
    in_parallel(multiply, len(y), (x, factor, y))


@pytest.mark.skipif(not IS_X86, reason="only x86 computes with subnormal numbers more slowly")
@pytest.mark.parametrize("size", [1, 1000])  # in the calling thread, in all threads
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tasks_count_subnormal_numbers_as_zero_and_their_caller_does_not(size, dtype):
    small, y = np.finfo(dtype).tiny, np.ones(size, dtype)
    multiply_all(np.full(size, 2 * small, dtype), dtype(0.25), y)
    assert (y == 0).all(), "the result is subnormal"
    y[:] = 1
    multiply_all(np.full(size, small / 2, dtype), dtype(4), y)
    assert (y == 0).all(), "the operand is subnormal"
    multiply_all(np.full(size, 4 * small, dtype), dtype(0.25), y)
    assert (y == small).all(), "neither of them is"
    assert (np.full(size, 2 * small, dtype) * dtype(0.25) == small / 2).all(), "NumPy's result, after the tasks"


def test_kernels_start_their_threads_here():
    files = (PACKAGE / "ops").rglob("*.py")
    assert not {file.name for file in files if "prange" in file.read_text(encoding="utf-8")}


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tinynet.backends.numba import tasks
tasks.HAS_WORKERS &= sys.argv[2] == "workers"
import numba, numpy as np
from test_tasks import count_all
counts = np.zeros(100, np.int64)
count_all(99, 1, (1, 1.0), counts)
assert counts[0] == 0 and (counts[1:] == 1).all()
print(numba.threading_layer())
"""


@pytest.mark.parametrize(("layer", "starter"), [("workqueue", "layer"), ("omp", "layer"), ("omp", "workers")])
def test_every_layer_compiles_the_tasks_and_finds_them_in_the_cache(layer, starter, tmp_path):
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "TINYNET_CACHE": str(tmp_path)}
    for _ in range(2):
        command = [sys.executable, "-c", PROGRAM, os.path.dirname(__file__), starter]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if layer == "omp" and "threading layer" in done.stderr:
            pytest.skip("OpenMP is not installed")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [layer]
