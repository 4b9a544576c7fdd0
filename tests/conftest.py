"""What the tests of several files use."""

from __future__ import annotations

import os

# Test processes run side by side. Further threads of BLAS (which asks once, when NumPy is imported), and helpers that
# compile ahead (helpers.py), would be in the way of both.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TINYNET_IS_HELPER", "1")

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from browser import browser_page, open_page  # noqa: F401 (fixtures)
from processes import ROOT

from tinynet.nn import layers

# A shell that starts pytest in the background lets it ignore SIGINT, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_random_numbers(request, monkeypatch):
    """A module's generator begins anew for each test: which tests ran before in this process makes no difference."""
    for name in ("RNG", "rng"):
        if isinstance(getattr(request.module, name, None), np.random.Generator):
            monkeypatch.setattr(request.module, name, np.random.default_rng(0))


@pytest.fixture
def fused_calls(monkeypatch):
    """An entry for each time the fused conv_elu_dropout ran."""
    calls = []
    fused = layers.conv_elu_dropout
    monkeypatch.setattr(layers, "conv_elu_dropout", lambda *a, **k: calls.append(1) or fused(*a, **k))
    return calls


@pytest.fixture(scope="session")
def built_site(tmp_path_factory):
    """The folder of the site's pages. Sphinx builds it once for all processes of pytest; a warning is an error."""
    for module in ("sphinx", "myst_parser", "furo", "sphinx_design", "sphinx_gallery"):
        pytest.importorskip(module, reason="the site needs the extra 'docs'")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    failed, done = folder / "failed", folder / "done"
    try:
        folder.mkdir()
    except FileExistsError:  # another process of pytest builds it
        while not (failed.exists() or done.exists()):
            time.sleep(1)
    else:
        build = subprocess.run([sys.executable, str(ROOT / "docs/book/build.py"), "--out", str(folder)])
        (failed if build.returncode else done).touch()
    assert done.exists(), "docs/book/build.py failed; its output says why"
    return folder / "html"


@pytest.fixture
def fake_gpu(monkeypatch):
    """A GPU that is not there: see fake_cupy.py. What happens on it is counted in what this gives."""
    import fake_cupy

    return fake_cupy.install(monkeypatch)
