"""Numba's bounds checks: kernels are compiled with a test of every index, and run their cases.

Without them, a loop that runs too far reads and writes memory that is not its own, often with right results. Views made
by `strided` have bounds of their own, which need not be those of the memory behind them.
"""

import pytest
from processes import python

PLANTED = """
import numpy as np
from tinynet.backends.numba.jit import jit
from tinynet.backends.numba.tasks import in_parallel

@jit(separate=True)
def task(i, x):
    x[i + 1] = 1

@jit
def all_tasks(x):
    in_parallel(task, len(x) - 1, (x[:-1],))

try:
    all_tasks(np.zeros(5))
except IndexError:
    print("refused")
"""


def test_the_checks_see_an_index_too_far(tmp_path):
    """Also if the cache has the kernel without them."""
    (tmp_path / "planted.py").write_text(PLANTED)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import planted"
    assert [python(code, TINYNET_CACHE=str(tmp_path), NUMBA_BOUNDSCHECK=check) for check in "01"] == ["", "refused"]


@pytest.mark.slow
def test_no_kernel_leaves_its_arrays(tmp_path):
    # float32 only: without vectors, a float64 sum rounds more than its tolerance.
    wanted = "agrees_with_the_reference and cpu and not cuda and float32"
    code = f"import pytest; print(pytest.main(['-q', 'tests/test_ops.py', '-k', {wanted!r}]).value)"
    assert python(code, TINYNET_CACHE=str(tmp_path), NUMBA_BOUNDSCHECK="1").splitlines()[-1] == "0"
