"""Several processes with one compile cache: nothing is compiled twice, and training begins with the help of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from processes import ROOT, python

import tinynet as tn
from tinynet import nn
from tinynet.backends.numba import claims, helpers

needs_locks = pytest.mark.skipif(not claims.CAN_LOCK, reason="this system locks no bytes of files")

# Two processes come for one function at the same time. Each says when it is inside.
COMER = """
import sys, time
from pathlib import Path
from tinynet.backends.numba.claims import claimed
print("here", flush=True)
sys.stdin.readline()
with claimed(Path(sys.argv[1]), sys.argv[2]):
    begin = time.monotonic()
    time.sleep(0.3)
    print(begin, time.monotonic())
"""


def both_stays(folder, *functions: str) -> list[tuple[float, float]]:
    """When each of two processes was inside, for the functions that they claim."""
    comers = [
        subprocess.Popen(
            [sys.executable, "-c", COMER, folder, function],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for function in functions
    ]  # fmt: skip
    for comer in comers:
        assert comer.stdout.readline() == "here\n"
    for comer in comers:
        comer.stdin.write("go\n")
        comer.stdin.flush()
    return sorted(tuple(map(float, comer.communicate()[0].split())) for comer in comers)


@needs_locks
def test_one_process_waits_for_the_other_if_both_need_the_same_function(tmp_path):
    first, second = both_stays(tmp_path, "elu float32", "elu float32")
    assert second[0] >= first[1]
    first, second = both_stays(tmp_path, "elu float32", "elu float64")
    assert second[0] < first[1]


@needs_locks
def test_a_process_that_is_killed_leaves_no_claim(tmp_path):
    begin = "from pathlib import Path; from tinynet.backends.numba.claims import claimed\n"
    inside = "with claimed(Path({!r}), 'elu'):\n    "
    hold = begin + inside.format(str(tmp_path)) + "print('inside', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout.readline() == "inside\n"
    holder.kill()
    holder.wait()
    assert python(begin + inside.format(str(tmp_path)) + "print('inside')") == "inside"


def test_where_files_cannot_be_locked_nothing_is(tmp_path, monkeypatch):
    missing = tmp_path / "missing"
    with claims.claimed(missing, "elu"):
        pass
    claims._locks.cache_clear()
    monkeypatch.setattr(claims, "fcntl", None)
    with claims.claimed(tmp_path, "elu"):
        pass
    claims._locks.cache_clear()
    assert list(tmp_path.iterdir()) == []


COUNT = """
import sys
import numpy as np
from tinynet.backends.numba import jit
from numba.core import event
from tinynet.ops.activations import cpu

class Counter(event.Listener):
    compiled = []
    def on_start(self, started):
        self.compiled.append(f"{started.data['dispatcher']} {started.data['args']}")
    def on_end(self, ended):
        pass

event.register("numba:compile", Counter())
print("here", flush=True)
sys.stdin.readline()
y = cpu.PARTS["elu"].forward(np.linspace(-1, 1, 5, dtype="f"), alpha=1.0)
print(sum(f.startswith("CPUDispatcher(<function _loops") for f in Counter.compiled), y.sum())
"""


@needs_locks
def test_two_processes_that_begin_together_compile_each_kernel_once(tmp_path):
    """The ranks of a distributed training, for example."""
    comers = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT],
            env={**os.environ, "TINYNET_CACHE": str(tmp_path)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for _ in range(2)
    ]  # fmt: skip
    for comer in comers:
        assert comer.stdout.readline() == "here\n"
    counts, sums = zip(*(comer.communicate("go\n")[0].split() for comer in comers))
    assert sorted(map(int, counts)) == [0, 2], "the kernel and its task"
    assert sums[0] == sums[1]


# --------------------------------------------------------------------------------- when helpers are started
@pytest.fixture
def started(monkeypatch):
    """The parts of the helpers that were started, in a process that is not a helper itself."""
    calls = []
    monkeypatch.delenv(helpers.IS_HELPER, raising=False)
    monkeypatch.setattr(helpers, "_would_help", False)
    monkeypatch.setattr(helpers, "_helpers", [])
    monkeypatch.setattr(helpers, "CAN_LOCK", True)
    monkeypatch.setattr(helpers, "usable_cores", lambda: 2)
    monkeypatch.setattr(helpers, "_start", lambda part: calls.append(part) or calls)
    return calls


def train_and_compile(*layers: nn.Module) -> None:
    tn.optim.SGD(nn.Sequential(*layers), 0.1)
    for module in ("matmul.blocked", "conv2d.blocked", "conv2d.winograd_loops"):
        helpers.start_if_they_help(f"tinynet.ops.{module}")


def test_a_process_that_trains_a_net_like_a_unet_starts_one(started):
    helpers.start_if_they_help("tinynet.ops.conv2d.blocked")
    assert started == [], "it predicts"
    train_and_compile(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3))
    assert started == ["backward"]
    train_and_compile(nn.Conv2d(16, 32, 3))
    assert started == ["backward"], "once"


def test_a_helper_that_the_system_refuses_is_done_without(started, monkeypatch):
    def refused(part):
        started.append(part)
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(helpers, "_start", refused)
    monkeypatch.setattr(helpers, "usable_cores", lambda: 3)
    train_and_compile(nn.Conv2d(16, 16, 3))
    assert started == ["backward"], "it is not asked for again"


@pytest.mark.parametrize(
    ("cores", "expected"), [(2, ["backward"]), (3, ["backward", "forward"]), (64, ["backward", "forward"])]
)
def test_there_is_a_core_for_each(started, monkeypatch, cores, expected):
    monkeypatch.setattr(helpers, "usable_cores", lambda: cores)
    train_and_compile(nn.Conv2d(16, 16, 3))
    assert started == expected


def test_a_process_that_trains_another_net_starts_none(started):
    train_and_compile(nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Linear(9, 9), nn.Conv2d(3, 16, 3))
    assert started == []


@pytest.mark.parametrize("reason", ["helper", "rank", "one core", "no locks", "frozen"])
def test_where_helpers_would_not_help_none_is_started(started, monkeypatch, reason):
    {
        "helper": lambda: monkeypatch.setenv(helpers.IS_HELPER, "1"),
        "rank": lambda: monkeypatch.setenv("PMI_SIZE", "2"),
        "one core": lambda: monkeypatch.setattr(helpers, "usable_cores", lambda: 1),
        "no locks": lambda: monkeypatch.setattr(helpers, "CAN_LOCK", False),
        "frozen": lambda: monkeypatch.setattr(sys, "frozen", True, raising=False),
    }[reason]()
    train_and_compile(nn.Conv2d(16, 16, 3))
    assert started == []


def test_a_helper_runs_this_tinynet_and_compiles_at_the_same_level(tmp_path, monkeypatch):
    """Not the real one, which would compile for half a minute, but a module that writes down how it was started."""
    (tmp_path / "helper.py").write_text(
        "import json, os, sys, tinynet\n"
        f"names = 'NUMBA_OPT', {helpers.IS_HELPER!r}\n"
        "said = [tinynet.__file__, *(os.environ[name] for name in names), *sys.argv[1:]]\n"
        "open('said', 'w').write(json.dumps(said))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(helpers, "HELPER", "helper")
    monkeypatch.setattr("numba.config.OPT", 1)
    assert helpers._start("forward").wait() == 0
    assert json.loads((tmp_path / "said").read_text()) == [tn.__file__, "1", "1", "forward"]


STEP = """
import numpy as np
import tinynet as tn
from tinynet.backends.numba import jit
from numba.core import event
from tinynet.tools.bench.examples import load_example

class Names(event.Listener):
    compiled = []
    def on_start(self, started):
        self.compiled.append(started.data["dispatcher"].__name__)
    def on_end(self, ended):
        pass

event.register("numba:compile", Names())
script = load_example("segmentation/unet_nuclei.py")
model = script.UNet()
optimizer = tn.optim.AdamW(model.parameters())
images, masks = np.zeros((8, 128, 128, 3), np.float32), np.ones((8, 128, 128, 1), np.float32)
loss = script.mask_loss(model.logits(tn.tensor(images)), tn.tensor(masks), "bce+dice")
forward = len(Names.compiled)
loss.backward()
optimizer.step()
print(forward, *Names.compiled[forward:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("part", helpers.PARTS)
def test_each_helper_compiles_all_of_the_backward_pass(part, tmp_path):
    """After `backward`, a step with other images compiles kernels of the forward pass only; after `forward`, few."""
    environment = {"TINYNET_CACHE": str(tmp_path), helpers.IS_HELPER: "1"}
    python(f"from tinynet.tools.compile_ahead import main; main({part!r})", **environment)
    forward, *backward = python(STEP, **environment).split()
    assert backward == [] and (int(forward) > 20 if part == "backward" else 0 < int(forward) < 20)
