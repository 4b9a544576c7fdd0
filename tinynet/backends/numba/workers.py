"""Threads that stay and wait for the tasks of kernels: `in_parallel` uses them on Linux with x86 processors.

The kernels of a short training step follow each other every 50 microseconds. A thread that sleeps between them takes as
long to wake up. A thread that waits *actively*, in a loop, keeps its core from all other programs, and on a busy
machine from the thread that it waits for. OpenMP offers either. Workers wait actively, but only as long as their
*patience* allows. They look at the clock while they wait: if it jumps, another program has used the core, and the
patience falls to a quarter. Each wait that was short lengthens it again (figures: docs/performance.md).

A kernel publishes its tasks. Each thread, the calling one too, does those of its own share first, because the kernel
before has probably left their data in its cache; then it takes what is left of the other shares. So nobody waits for a
worker that wakes up late. The results do not depend on who does a task. If the workers are busy with the kernel of
another thread, a kernel does its tasks alone.
"""

from __future__ import annotations

import atexit
import sys
import threading

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import jit
from .subnormals import IS_X86
from .words import WORDS, add, cycles, exchange, pause, read, sleep_while, wake

HAS_WORKERS = IS_X86 and sys.platform == "linux"

# The words. KERNEL is the number of kernels so far; WORKING is the number of workers inside of one. Beside a word that
# threads wait for, another one says how many of them are asleep.
KERNEL, ASLEEP_FOR_KERNEL, WORKING, ASLEEP_FOR_WORKING, IS_BUSY, IS_AT_END, PATIENCE = range(7)
RUNNER, DATA, THREADS, TASKS, FIRST_TAKEN = range(7, 12)  # from FIRST_TAKEN on: the tasks taken of each share
MOST_SHARES = WORDS - FIRST_TAKEN
PORTIONS = 4  # in which the tasks of a share are taken: few enough to cost nothing, and the last one is soon done

# In cycles of the processor's clock, 2 to 4 in a nanosecond.
LEAST_PATIENCE, MOST_PATIENCE = 20_000, 500_000
INTERRUPTED = 1_000_000  # between two looks at the clock; the system's own interruptions are shorter


@jit
def share_of(thread, threads, count):
    """(first, end): of 0 .. count - 1, the neighbors that are the share of a thread."""
    return thread * count // threads, (thread + 1) * count // threads


@intrinsic
def call_runner(typing_context, runner, first, count, data):
    """Run `count` tasks from the task `first` on. runner: the address of a function that tasks.py wrote."""

    def generate(context, builder, signature, arguments):
        pointer = ir.IntType(64).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, pointer, cgutils.voidptr_t])
        runner, *numbers, data = arguments
        first, count = (cgutils.alloca_once_value(builder, number) for number in numbers)
        unused = count  # what Numba's own threading layer calls steps
        function = builder.inttoptr(runner, kind.as_pointer())
        builder.call(function, [first, count, unused, builder.inttoptr(data, cgutils.voidptr_t)])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@jit(separate=True)
def wait_while(word, asleep, value):
    """Return when the word no longer holds the value: wait actively while patience lasts, then asleep."""
    start = now = cycles()
    while read(word) == value:
        pause()
        before, now = now, cycles()
        if now - before > INTERRUPTED:
            exchange(PATIENCE, max(LEAST_PATIENCE, read(PATIENCE) // 4))
        if now - start > read(PATIENCE):
            add(asleep, 1)
            sleep_while(word, value)
            add(asleep, -1)
            now = cycles()
    if now - start < MOST_PATIENCE:
        exchange(PATIENCE, min(MOST_PATIENCE, max(LEAST_PATIENCE, read(PATIENCE) * 9 // 8)))


@jit
def wake_sleepers(word, asleep):
    if read(asleep) > 0:
        wake(word)


@jit(separate=True)
def take_tasks(thread):
    """Do tasks of the published kernel until all are taken, those of the thread's own share first.

    Nothing if no kernel is published (TASKS is read first, and written last), or one that wants fewer threads.
    """
    tasks = read(TASKS)
    threads = read(THREADS) if tasks else 0
    shares = min(threads, MOST_SHARES) if thread < threads else 0
    for i in range(shares):
        share = (thread + i) % shares
        first, end = share_of(share, shares, tasks)
        portion = max(1, (end - first) // PORTIONS)
        task = first + add(FIRST_TAKEN + share, portion)
        while task < end:
            call_runner(read(RUNNER), task, min(portion, end - task), read(DATA))
            task = first + add(FIRST_TAKEN + share, portion)


@jit(nogil=True)
def work(number):
    """What a worker does until the process ends: wait for a kernel, and take part in it."""
    seen = 0
    while not read(IS_AT_END):
        wait_while(KERNEL, ASLEEP_FOR_KERNEL, seen)
        seen = read(KERNEL)
        add(WORKING, 1)
        take_tasks(number)
        add(WORKING, -1)
        wake_sleepers(WORKING, ASLEEP_FOR_WORKING)


@jit(separate=True)
def run_tasks(runner, tasks, data, threads):
    """Do all tasks of a kernel, on as many threads. runner, data: the addresses of its function and its arguments.

    TASKS is written last, and is 0 again before the kernel waits until nobody is WORKING. So a worker finds everything
    in its place, or it comes too late and finds no task.
    """
    if tasks < 2 or threads < 2 or exchange(IS_BUSY, 1):
        call_runner(runner, 0, tasks, data)
        return
    exchange(RUNNER, runner)
    exchange(DATA, data)
    exchange(THREADS, threads)
    for share in range(min(threads, MOST_SHARES)):
        exchange(FIRST_TAKEN + share, 0)
    exchange(TASKS, tasks)
    add(KERNEL, 1)
    wake_sleepers(KERNEL, ASLEEP_FOR_KERNEL)
    take_tasks(0)
    exchange(TASKS, 0)
    working = read(WORKING)
    while working:
        wait_while(WORKING, ASLEEP_FOR_WORKING, working)
        working = read(WORKING)
    exchange(IS_BUSY, 0)


@jit
def end_work():
    """Let all workers return."""
    exchange(IS_AT_END, 1)
    add(KERNEL, 1)
    wake(KERNEL)


_workers: list[threading.Thread] = []
_starting = threading.Lock()


def start_workers() -> None:
    """Start a worker for each of Numba's threads but the calling one, once. They end when the program does."""
    with _starting:
        if _workers or not HAS_WORKERS:
            return
        work.compile((types.int64,))  # else each of them would compile it
        for number in range(1, numba.config.NUMBA_NUM_THREADS):
            _workers.append(threading.Thread(target=work, args=(number,), daemon=True, name=f"tinynet worker {number}"))
            _workers[-1].start()
        atexit.register(_end)


def _end() -> None:
    """Let the workers end before Python takes their compiled code out of memory."""
    end_work()
    for worker in _workers:
        worker.join()
