"""Settings of Numba, made before Numba is imported. A setting of the user is kept.

Numba reads the environment once, at import, and again before every compilation. So the variables stay set, and they
also hold for the user's own Numba functions and for programs that this process starts. This is the only place where
tinynet changes the environment of the process.

If a program has imported Numba before tinynet, the environment is left alone: a changed variable would make Numba
forget what the program has set through `numba.config`. Then only the number of threads is limited, by `limit_threads`.
"""

import os
import sys


def _threads_asked_for() -> int | None:
    """The first number in OMP_NUM_THREADS, which may be a list with a number for each level of nesting."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def set_environment() -> None:
    """Set Numba's number of threads to that of OpenMP, and LLVM's optimization level to 2.

    At level 3, Numba's default, the kernels of a U-Net take a fifth longer to compile and run no faster: they contain
    their vector instructions already.
    """
    threads = _threads_asked_for()
    if threads:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))
    os.environ.setdefault("NUMBA_OPT", "2")


def limit_threads() -> None:
    """If Numba was imported before tinynet, limit the threads of kernels that this thread starts."""
    import numba

    threads = _threads_asked_for()
    if threads and "NUMBA_NUM_THREADS" not in os.environ:
        numba.set_num_threads(min(threads, numba.get_num_threads()))


if sys.modules.get("numba") is None:
    set_environment()
