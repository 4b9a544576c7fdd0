"""Settings that must be made before Numba is imported. What the user has set has the last word."""

import os

# Numba has a variable of its own for the number of threads and does not read the one that all others share. That one
# may be a list, a number for each level of nesting.
_threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
if _threads.isdecimal() and int(_threads) > 0:
    os.environ.setdefault("NUMBA_NUM_THREADS", _threads)

# LLVM's level of optimisation. At Numba's own, 3, the kernels of a U-Net take a fifth longer to compile and are no
# faster: what makes them fast is written out in them.
os.environ.setdefault("NUMBA_OPT", "2")
