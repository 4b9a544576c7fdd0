"""Settings of threads that must be made before Numba is imported. What the user has set has the last word."""

import os

# Between two kernels, Numba's OpenMP threads would spin on their cores to be ready at once. Where anything else
# runs (the loader's threads, another program), a spinning thread keeps the core from the one that everybody waits
# for: measured, a training step then takes 3 to 8 times as long. Asleep they cost 5 microseconds a kernel. OpenMP
# reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Numba has a variable of its own for the number of threads and does not read the one that all others share. That one
# may be a list, a number for each level of nesting.
_threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
if _threads.isdecimal() and int(_threads) > 0:
    os.environ.setdefault("NUMBA_NUM_THREADS", _threads)
