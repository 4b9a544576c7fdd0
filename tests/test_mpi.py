"""Training under mpiexec: the bits of one process that accumulates, files by rank 0, and ends that end all ranks."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from tinynet.errors import UsageError
from tinynet.tools.bench.distributed import exchange_seconds
from tinynet.tools.bench.main import main
from tinynet.tools.bench.network import Network, find_mpiexec
from tinynet.training.distributed.launched import world
from tinynet.training.io import load_checkpoint

pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install -e '.[mpi]'")
try:
    MPIEXEC = find_mpiexec()
except UsageError as error:
    pytest.skip(str(error), allow_module_level=True)

PROGRAM = """
    import os, sys, time
    from dataclasses import dataclass
    import numpy as np
    import tinynet as tn
    from tinynet import nn, optim
    from tinynet.tools.cli import TrainingOptions, command_line, option, run

    @dataclass
    class Config(TrainingOptions):
        mistake: str = option("", "what goes wrong")
        batches: int = option(5, "in an epoch")

    @command_line(Config)
    def main(config):
        tn.seed(config.seed)
        rank = tn.distributed.world().rank
        print(f"rank {rank} prints")
        x = np.random.default_rng(0).normal(size=(4 * config.batches - 1, 6)).astype(np.float32)
        data = list(zip(x, (x.sum(axis=1, keepdims=True) > 0).astype(np.float32)))
        loader = tn.data.DataLoader(data, 4, seed=1)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm2d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        optimizer = optim.Adam(model.parameters(), 1e-2)
        calls = []

        def loss(images, masks):
            calls.append(len(images))
            if config.mistake == "dies" and rank == 1 and len(calls) == 7:
                raise OSError("the disk is gone")
            if config.mistake == "killed" and rank == 1 and len(calls) == 7:
                os.kill(os.getpid(), 9)
            if config.mistake == "nan" and rank == 1 and len(calls) == 7:
                images.data[...] = np.nan
            if config.mistake == "slow":
                time.sleep(0.05)
            return tn.dice_loss(tn.sigmoid(model(images)), masks)

        def validate():
            assert rank == 0
            image, mask = data[0]
            return {"val_loss": loss(tn.tensor(image[None]), tn.tensor(mask[None])).item()}

        trainer = tn.train.Trainer(
            model, optimizer, loss, config.out, average=optim.WeightAverage(model, 0.9), max_norm=1.0, settings=config
        )
        trainer.fit(loader, config.epochs, validate, resume=config.resume)

    run(main)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("mpi") / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return path


def command(program, ranks, *flags):
    launcher = [MPIEXEC, "-n", str(ranks)] if ranks > 1 else []
    return [*launcher, sys.executable, str(program), "--backend", "reference", "--epochs", "2", *map(str, flags)]


def environment():
    root = Path(__file__).parents[1]
    return {**os.environ, "PYTHONPATH": str(root), "NUMBA_NUM_THREADS": "1"}


def start(program, ranks, *flags):
    return subprocess.run(
        command(program, ranks, *flags), env=environment(), capture_output=True, text=True, timeout=120
    )


def weights(folder):
    """Every array of last.npz, by name: weights, optimizer, average, buffers."""
    sections, _ = load_checkpoint(folder / "last.npz")
    arrays = {}

    def collect(name, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                collect(f"{name}.{key}", inner)
        elif name != ".progress.seconds":
            arrays[name] = np.asarray(value)

    collect("", sections)
    return arrays


def assert_same_run(actual, expected):
    actual, expected = weights(actual), weights(expected)
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


@pytest.fixture(scope="module")
def accumulated(program, tmp_path_factory):
    """The run of one process with two passes for each batch."""
    folder = tmp_path_factory.mktemp("accumulated")
    run = start(program, 1, "--accumulate", 2, "--out", folder)
    assert run.returncode == 0, run.stderr
    return folder


def test_two_ranks_train_to_the_bits_of_two_passes(program, accumulated, tmp_path):
    run = start(program, 2, "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    assert_same_run(tmp_path, accumulated)
    assert "rank 0 prints" in run.stdout and "rank 1 prints" not in run.stdout
    assert run.stdout.count("epoch 2/2") == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == [
        "best.npz", "config.json", "curve.png", "last.npz", "metrics.csv"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_rank_that_fails_ends_all_with_its_name_and_the_run_resumes(program, accumulated, tmp_path):
    run = start(program, 2, "--out", tmp_path, "--mistake", "dies")
    assert run.returncode == 2
    assert "rank 1 of 2" in run.stderr and "the disk is gone" in run.stderr
    run = start(program, 2, "--out", tmp_path, "--resume")
    assert run.returncode == 0, run.stderr
    assert "1 epochs are done" in run.stdout
    assert_same_run(tmp_path, accumulated)


@pytest.mark.slow
def test_a_killed_rank_ends_all(program, tmp_path):
    run = start(program, 2, "--out", tmp_path, "--mistake", "killed")
    assert run.returncode != 0
    assert "EXIT CODE: 9" in run.stdout + run.stderr


@pytest.mark.slow
def test_data_that_are_not_finite_on_one_rank_are_named(program, tmp_path):
    run = start(program, 2, "--out", tmp_path, "--mistake", "nan")
    assert run.returncode == 2
    assert "the data are at fault: array 0 of the batch" in run.stderr
    assert "last good state is kept" in run.stderr


@pytest.mark.slow
def test_ctrl_c_stops_all_ranks_after_one_batch_and_the_run_resumes(program, tmp_path):
    flags = ("--out", tmp_path, "--batches", 40, "--mistake", "slow")
    process = subprocess.Popen(
        command(program, 2, *flags), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while not (tmp_path / "config.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert "To go on:" in output, errors
    _, meta = load_checkpoint(tmp_path / "last.npz")
    assert meta["history"] == []  # within the first epoch
    run = start(program, 2, *flags[:4], "--resume")
    assert run.returncode == 0, run.stderr
    straight = tmp_path / "straight"
    assert start(program, 2, "--out", straight, "--batches", 40).returncode == 0
    assert_same_run(tmp_path, straight)


def test_only_training_runs_under_mpiexec(tmp_path):
    script = Path(__file__).parents[1] / "examples" / "basics" / "activations.py"
    run = subprocess.run(
        [MPIEXEC, "-n", "2", sys.executable, str(script), "--quick", "--out", str(tmp_path)],
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 2
    assert "only training divides its work: run this without mpiexec" in run.stderr


def test_without_mpi4py_mpiexec_is_refused(monkeypatch):
    """Four processes that know nothing of each other would write into one folder."""
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UsageError, match=r"started by mpiexec, but mpi4py cannot be used .*\[mpi\]"):
        world.__wrapped__()


@pytest.mark.slow
def test_the_benchmark_measures_the_exchange(tmp_path):
    path = tmp_path / "distributed.json"
    main(["distributed", "--batch", "1", "--size", "16", "--turns", "1", "--json", str(path)])
    (row,) = json.loads(path.read_text())["rows"]
    assert row["bytes"] == 4 * 1_941_105 and row["ranks"] == 2
    assert min(row["step"], row["alone"], row["exchange"]) > 0


@pytest.mark.slow
def test_the_benchmark_limits_a_network():
    try:
        with Network(2, 1000):
            pass
    except UsageError as error:
        pytest.skip(str(error))
    (row,) = main(["distributed", "--mbits", "1000", "--batch", "1", "--size", "16", "--turns", "1"])
    assert row["mbits"] == 1000 and row["exchange"] > 0
    assert "tinynet" not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout


def test_what_an_exchange_costs_at_least():
    assert exchange_seconds(1_000_000, 2, 8) == 1.0  # half of it to the other rank, half of the sum back, at 1 MB/s
    assert exchange_seconds(1_000_000, 1, 8) == 0.0
