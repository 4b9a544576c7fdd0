"""What the machine can do, measured: arithmetic by the matrix product of NumPy's BLAS, memory by a triad in Numba.

A kernel takes at least as long as its operations take at the first rate and its bytes at the second; `bench ops` prints
how near each kernel comes to that bound (the roofline: Williams, Waterman, Patterson, CACM 2009).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from .processes import LOUD, Child, ChildError, quiet_answer, timed

# On a new processor OpenBLAS may choose kernels for an older one, at half the speed, so the fastest of these counts.
# A processor that lacks the instructions ends the child process, which does no harm.
BLAS_KERNELS = ("", "Haswell", "SkylakeX")
SIZE = 2048  # of the matrices
ELEMENTS = 2**24  # in each array of the triad, far more than a cache holds


def measured_peak(threads: int) -> tuple[float | None, float | None]:
    """(GFLOP/s, GB/s) of float32 with so many threads, each measured in a process of its own.

    None if other processes were busy: a rate measured meanwhile is too low, and kernels would seem to be faster.
    """
    rates = []
    for name in BLAS_KERNELS:
        try:
            rates.append(_in_child("sgemm", threads, {"OPENBLAS_CORETYPE": name} if name else {}))
        except ChildError:
            if not name:
                raise
    return max((rate for rate in rates if rate), default=None), _in_child("triad", threads, {})


def _in_child(what: str, threads: int, environment: dict[str, str]) -> float | None:
    with contextlib.closing(Child(__name__, what, threads=threads, environment=environment)) as child:
        answer = quiet_answer(child, None)
    return None if answer["others_busy"] > LOUD else answer["rate"]


def sgemm() -> float:
    """GFLOP/s of the product of two matrices of float32."""
    a = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    b, c = a.T.copy(), np.empty_like(a)
    return 2 * SIZE**3 / min(timed(lambda: np.matmul(a, b, out=c))) / 1e6


def triad() -> float:
    """GB/s of a[i] = b[i] + 3 c[i], float32: two arrays read, one written (McCalpin's STREAM, 1995)."""
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def loop(a, b, c):
        for i in numba.prange(a.size):
            a[i] = b[i] + np.float32(3) * c[i]

    a, b, c = (np.ones(ELEMENTS, np.float32) for _ in range(3))
    loop(a, b, c)  # compiles
    return 3 * a.nbytes / min(timed(lambda: loop(a, b, c))) / 1e6


def start(what: str) -> tuple[dict, Callable]:
    """Asked for anything, it measures "sgemm" or "triad"."""
    measure = {"sgemm": sgemm, "triad": triad}[what]
    return {}, lambda request: {"rate": measure()}
