"""The machine that figures are measured on, and the variables that set a process's number of threads."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

# /proc/stat counts time in whole ticks.
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

# Every library reads its number of threads from a variable of its own, when it is loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def cores() -> list[int]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def thread_variables(threads: int) -> dict[str, str]:
    """The environment variables that make a new process use so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def processor() -> str:
    """The name of the machine's processor, if the system tells it, or else its architecture."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """Processor, cores, system and versions, for the JSON file."""
    return {
        "processor": processor(),
        "cores": len(cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("numpy", "numba")},
    }


def busy_seconds() -> float:
    """The seconds for which the cores of this process have been busy since the machine started, summed over the cores.

    NaN on a system that does not tell. The difference of two calls counts all processes that ran in between.
    """
    mine = {f"cpu{core}" for core in cores()}
    with contextlib.suppress(OSError):
        total = 0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *ticks = line.split()
            if name in mine:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
                total += user + nice + system + irq + softirq + steal
        return total / TICKS_PER_SECOND
    return float("nan")


def busy_resolution() -> float:
    """The largest error of the difference of two `busy_seconds()`: a tick for each core."""
    return len(cores()) / TICKS_PER_SECOND
