"""The number of threads. This number and the seed fix every bit of a training step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import python

import tinynet as tn
from tinynet.backends.registry import implementation_kernel
from tinynet.learn.gradcheck.tiers import cases_of


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"NUMBA_NUM_THREADS": "3"}, 3),
        pytest.param({"OMP_NUM_THREADS": "3,1"}, 3, marks=pytest.mark.slow),  # one number for each level of nesting
        ({"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "1"}, 1),  # Numba's own variable has the last word
    ],
)
def test_the_environment_sets_the_number_of_threads(variables, threads):
    code = """
import numpy as np, tinynet as tn
tn.elu(tn.tensor(np.ones(5, np.float32)))
import numba
print(numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
"""
    assert python(code, **variables) == f"{threads} {threads}"


@pytest.mark.parametrize("first", ["backends.numba.jit", "nn"])
def test_numba_has_our_settings_whichever_module_is_imported_first(first):
    code = f"import tinynet.{first}, numba; print(int(numba.config.OPT), numba.config.NUMBA_NUM_THREADS)"
    assert python(code, OMP_NUM_THREADS="1") == "2 1"


@pytest.mark.parametrize(
    ("variables", "threads_run", "threads"),
    [
        ({"OMP_NUM_THREADS": "1"}, False, 1),
        pytest.param({"OMP_NUM_THREADS": "1"}, True, 1, marks=pytest.mark.slow),
        ({"OMP_NUM_THREADS": "99"}, False, 2),  # Numba cannot have more than it began with
        ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}, True, 2),
        pytest.param({}, False, 2, marks=pytest.mark.slow),
    ],
)
def test_the_environment_holds_where_the_program_has_imported_numba_first(variables, threads_run, threads):
    """The environment is not changed: Numba would undo the program's choice, or refuse to compile."""
    code = f"""
import os, numba
if "NUMBA_NUM_THREADS" not in os.environ:
    numba.config.NUMBA_NUM_THREADS = 2  # as on a machine of two cores
numba.config.DISABLE_PERFORMANCE_WARNINGS = 7  # any value, to see that it is kept
{threads_run} and numba.get_num_threads()
before = dict(os.environ)
import numpy as np, tinynet as tn
tn.elu(tn.tensor(np.ones(5, np.float32)))
assert numba.njit(lambda x: x + 1)(1) == 2, "compiles"
assert dict(os.environ) == before and numba.config.DISABLE_PERFORMANCE_WARNINGS == 7
print(numba.get_num_threads())
"""
    assert python(code, **variables) == f"{threads}"


def test_a_program_may_choose_fewer_threads_than_the_environment():
    code = """
import numba
numba.set_num_threads(1)
import numpy as np, tinynet as tn
tn.elu(tn.tensor(np.ones(5, np.float32)))
print(numba.get_num_threads())
"""
    assert python(code, OMP_NUM_THREADS="2") == "1"


TRAINING = """
import hashlib
import numpy as np, tinynet as tn
from tinynet.tools.bench.examples import load_example
from tinynet.optim import Adam

rng = np.random.default_rng(0)
images = rng.random((2, 32, 48, 3), dtype=np.float32)
masks = (rng.random((2, 32, 48, 1)) < 0.3).astype(np.float32)
for seed in (0, 1):
    tn.seed(seed)
    model = load_example("segmentation/unet_nuclei.py").UNet()
    optimizer = Adam(model.parameters())
    digest = hashlib.sha256()
    for _ in range(2):
        optimizer.zero_grad()
        loss = tn.dice_loss(model(tn.tensor(images)), masks)
        loss.backward()
        optimizer.step()
        digest.update(loss.numpy().tobytes())
    for parameter in model.parameters():
        digest.update(parameter.numpy().tobytes())
    print(digest.hexdigest())
"""


def test_same_seed_and_threads_same_bits():
    first, second = (python(TRAINING, NUMBA_NUM_THREADS="2").split() for _ in range(2))
    assert first == second
    assert first[0] != first[1], "otherwise the digest would depend on nothing"


@pytest.mark.parametrize(
    ("op", "module", "implementation"),
    [
        ("avg_pool2d", "cpu", "default"),
        ("conv2d", "depthwise", "depthwise"),
        ("max_pool2d", "cpu", "default"),
        ("sample", "border", "default"),
    ],
)
def test_the_number_of_shares_changes_no_bit(op, module, implementation, monkeypatch):
    """The cases are small, and their elements would be one share."""
    for case in cases_of(op):
        for name, (arrays, parameters) in case.calls.items():
            kernel = implementation_kernel(op, name, "cpu", implementation)
            results = []
            for shares in (1, 3):
                monkeypatch.setattr(f"tinynet.ops.{op}.{module}.threads_for", lambda size, shares=shares: shares)
                results.append(kernel(*arrays, **parameters))
            np.testing.assert_equal(results[1], results[0], err_msg=f"{name}, {case.label}")


def test_the_backend_is_of_one_thread():
    with ThreadPoolExecutor(1) as pool, tn.use_backend("reference"):
        assert (pool.submit(tn.backend).result(), tn.backend()) == ("cpu", "reference")
