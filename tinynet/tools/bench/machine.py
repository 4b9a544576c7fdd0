"""What the figures were measured on, and how a process is told its number of threads."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

# /proc/stat counts time in whole ticks.
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

# Every library asks for its threads in its own way, when it is loaded.
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
    """The environment variables with which a new process uses so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def processor() -> str:
    """The name of the machine's processor, as well as the system knows it."""
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
    """How long this machine's cores have been busy since it was started, summed over the cores of this process.

    NaN where the system does not tell. The difference of two calls is what ran in between, whoever ran it.
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
    """By how many seconds the difference of two `busy_seconds()` may be too large: a tick for each core."""
    return len(cores()) / TICKS_PER_SECOND
