"""The steps of CONTRIBUTING.md are complete: an activation is added to a copy of the package, and its code runs."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from op_folders import missing
from processes import ROOT
from prose import blocks

import tinynet as tn


def test_the_function_is_differentiable():
    names: dict = {}
    exec(next(blocks(ROOT / "CONTRIBUTING.md")).text, names)
    x = tn.tensor([1.0, 2.0], requires_grad=True)
    y = names["Square"].apply(x)
    y.sum().backward()
    assert y.numpy().tolist() == [1, 4] and x.grad.numpy().tolist() == [2, 4]
    assert tn.gradcheck(names["Square"].apply, (np.array([1.0, 2.0]),))


ENTRY = """

class Bent(Activation, op="bent"):
    @staticmethod
    def value(x):
        return tanh_of(x)

    @staticmethod
    def gradient(gy, y):
        return gy * ((ONE - y) * (ONE + y))


def bent(x: Tensor) -> Tensor:
    return Bent.of(x)
"""
CUDA = """
KERNEL bent_forward(const real* x, real* y, size_t n) {
  each(x, y, n, [](real x) { return tanh(x); });
}
KERNEL bent_backward(const real* gy, const real* y, real* gx, size_t n) {
  each(gy, y, gx, n, [](real gy, real y) { return gy * (1 - y) * (1 + y); });
}
"""
CHECK = """
import sys
import numpy as np
import tinynet as tn
from tinynet.backends.registry import implementation_kernel, ops, use_backend
from tinynet.learn.gradcheck.tiers import cases_of
assert "bent" in ops() and np.allclose(tn.bent(np.ones(3, "f4")), np.tanh(1))
for case in cases_of("bent"):
    for name, (arrays, parameters) in case.calls.items():
        expected = implementation_kernel("bent", name, "reference")(*arrays, **parameters)
        for tier in sys.argv[1:]:
            actual = implementation_kernel("bent", name, tier)(*arrays, **parameters)
            np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-300)
tn.gradcheck(tn.bent, (np.array([-1.0, 0.5]),))
tn.gradgradcheck(tn.bent, (np.array([-1.0, 0.5]),))
print("all tiers agree")
"""


@pytest.mark.slow
def test_an_activation_is_added_in_the_steps_of_the_text(tmp_path):
    shutil.copytree(ROOT / "tinynet", tmp_path / "tinynet", ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in (
        ("ops/activations/entries.py", "\n\nclass Softplus(", ENTRY + "\n\nclass Softplus("),
        ("ops/activations/entries.py", '"elu", "leaky', '"bent", "elu", "leaky'),
        ("ops/activations/activations.cu", "KERNEL elu_forward", CUDA + "\nKERNEL elu_forward"),
        ("ops/activations/__init__.py", '"elu"', '"bent", "elu"'),
        ("__init__.pyi", "import relu6 as relu6,", "import bent as bent, relu6 as relu6,"),
    ):
        path = tmp_path / "tinynet" / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, (file, old)
        path.write_text(text.replace(old, new), encoding="utf-8")
    tiers = [tier for tier in ("cpu", "cuda-sim") if not missing(tier)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", CHECK, *tiers]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "all tiers agree\n", done.stderr
