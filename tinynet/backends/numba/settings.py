"""Settings of Numba, made before it is imported. What the user has set has the last word.

Numba reads them from the environment when it is imported, and looks again before every compilation. So they stay there:
the number of threads could not even be taken back once these run. They hold for the user's own Numba functions, too,
and for the programs that are started from this process.

A program may have imported Numba before tinynet. Then the environment is left alone: a variable that changes would make
Numba forget whatever the program has chosen through `numba.config`. LLVM's level stays as it is, and for the number of
threads there is `limit_threads`.
"""

import os
import sys


def _threads_asked_for() -> int | None:
    """OMP_NUM_THREADS, the variable that all others share; it may be a list, a number for each level of nesting."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def set_environment() -> None:
    """Give Numba, which has a variable of its own, the number of threads, and the level of LLVM's optimisation.

    At Numba's own level, 3, the kernels of a U-Net take a fifth longer to compile and are no faster: what makes them
    fast is written out in them.
    """
    threads = _threads_asked_for()
    if threads:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))
    os.environ.setdefault("NUMBA_OPT", "2")


def limit_threads() -> None:
    """Where Numba came first, let this thread, from which tinynet is used, have no more threads than asked for."""
    import numba

    threads = _threads_asked_for()
    if threads and "NUMBA_NUM_THREADS" not in os.environ:
        numba.set_num_threads(min(threads, numba.get_num_threads()))


if sys.modules.get("numba") is None:
    set_environment()
