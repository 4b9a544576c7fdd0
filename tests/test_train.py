"""Training: the files of a run, resuming bit for bit, and errors that must not destroy a good checkpoint."""

import copy
import csv
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.data.loader import DataLoader
from tinynet.errors import CheckpointError, TrainingError
from tinynet.nn.optim import SGD, Adam, CosineDecay, ReduceOnPlateau, WeightAverage, clip_grad_norm
from tinynet.training.io import load_checkpoint, load_weights, save_checkpoint
from tinynet.training.train import Trainer

EPOCHS, BATCHES = 4, 4


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Use the reference kernels, which need no compiling, and draw no curves."""
    monkeypatch.setattr("tinynet.training.figures.plot_curve", lambda table, image: None)
    with tn.use_backend("reference"):
        yield


class NoisyPoints:
    """Inputs with new noise in every epoch, and targets; the last of four batches is smaller."""

    def __init__(self, count=14):
        rng = np.random.default_rng(1)
        self.x = rng.normal(size=(count, 3)).astype(np.float32)
        self.y = np.sin(self.x.sum(axis=1, keepdims=True))

    def __len__(self):
        return len(self.x)

    def item(self, index, rng):
        return self.x[index] + rng.normal(scale=0.01, size=3).astype(np.float32), self.y[index]


def mean_square(model):
    return lambda x, y: tn.mean((model(x) - y) ** 2)


class Run:
    """Everything that a script sets up: a net with dropout, Adam, a schedule, averaged weights, validation."""

    def __init__(self, out, model=None, loss=None, optimizer=None, data=None, batch_size=4, **settings):
        tn.seed(3)
        self.model = model or nn.Sequential(nn.Linear(3, 8), nn.ELU(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.optimizer = optimizer(self.model) if optimizer else Adam(self.model.parameters(), 1e-2)
        self.data = data or NoisyPoints()
        self.loader = DataLoader(self.data, batch_size, seed=5)
        self.loss = loss or mean_square(self.model)
        self.calls = 0
        self.on_call = {}  # number of the batch -> a function to call during it
        if "schedule" not in settings:
            settings["schedule"] = CosineDecay(self.optimizer, EPOCHS * BATCHES, warmup=2)
        settings.setdefault("average", WeightAverage(self.model, 0.9))
        settings.setdefault("max_norm", 0.5)
        self.trainer = Trainer(self.model, self.optimizer, self.counted_loss, out, **settings)

    def counted_loss(self, *batch):
        self.calls += 1
        self.on_call.get(self.calls, lambda: None)()
        return self.loss(*batch)

    def validate(self):
        loss = self.loss(tn.tensor(self.data.x), tn.tensor(self.data.y))
        return {"val_loss": loss.item(), "val_score": -loss.item()}

    def fit(self, epochs=EPOCHS, **options):
        options.setdefault("validate", self.validate)
        return self.trainer.fit(self.loader, epochs, **options)


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def table(out):
    """The rows of metrics.csv without the seconds, which differ from run to run."""
    with open(out / "metrics.csv", newline="") as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def flat(state, prefix=""):
    for name, value in state.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif name != "seconds":
            yield prefix + name, np.asarray(value)


def assert_same_run(out, undisturbed):
    """Weights, optimizer, schedule, average, random streams, position and metrics: bit for bit."""
    for file in ("last.npz", "best.npz"):
        actual, expected = (dict(flat(load_checkpoint(folder / file)[0])) for folder in (out, undisturbed))
        assert actual.keys() == expected.keys()
        different = [name for name in actual if actual[name].tobytes() != expected[name].tobytes()]
        assert not different
    assert table(out) == table(undisturbed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an uninterrupted run of four epochs."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, tn.use_backend("reference"):
        patch.setattr("tinynet.training.figures.plot_curve", lambda table, image: None)
        Run(out).fit()
    return out


# ---------------------------------------------------------------------------------------- the files of a run
def test_a_run_learns_and_writes_its_files(tmp_path, capsys, monkeypatch):
    monkeypatch.undo()  # draw the curve
    out = tmp_path / "a" / "new" / "folder"
    metrics = Run(out, settings={"seed": 3, "lr": 1e-2, "sizes": (4, 8), "folder": tmp_path}).fit()
    assert {p.name for p in out.glob("[!.]*")} == {"config.json", "metrics.csv", "curve.png", "last.npz", "best.npz"}
    rows = table(out)
    assert list(rows[0]) == ["epoch", "train_loss", "lr", "val_loss", "val_score"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert metrics["epoch"] == 4 and metrics["val_loss"] == float(rows[-1]["val_loss"])
    config = json.loads((out / "config.json").read_text())
    assert config["seed"] == 3 and config["settings"]["lr"] == 1e-2 and config["parameters"] == 41
    assert config["versions"].keys() >= {"tinynet", "python", "numpy"}
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and printed[3].startswith("epoch 4/4") and "val_loss" in printed[3]


def test_training_is_the_plain_loop(tmp_path):
    trained = Run(tmp_path)
    trained.fit(2)
    plain = Run("unused")
    trainer = plain.trainer
    for epoch in range(2):
        for x, y in plain.loader.batches(epoch):
            plain.optimizer.zero_grad()
            plain.loss(tn.tensor(x), tn.tensor(y)).backward()
            assert clip_grad_norm(plain.model.parameters(), trainer.max_norm) > trainer.max_norm
            plain.optimizer.step()
            trainer.schedule.step()
            trainer.average.update()
    for name in ("model", "optimizer", "average", "schedule"):
        actual, expected = (getattr(t, name).state_dict() for t in (trained.trainer, trainer))
        np.testing.assert_equal(actual, expected)


def test_training_loss_is_the_mean_over_examples_not_over_batches(tmp_path):
    losses, sizes = [], []
    run = Run(tmp_path)
    original = run.trainer.loss

    def recorded(x, y):
        loss = original(x, y)
        losses.append(loss.item())
        sizes.append(len(x))
        return loss

    run.trainer.loss = recorded
    metrics = run.fit(2, validate=None)
    assert sizes == 2 * [4, 4, 4, 2]
    assert metrics["train_loss"] == pytest.approx(np.average(losses[4:], weights=sizes[4:]), rel=1e-12)


def test_validation_and_pictures_see_the_averaged_weights_without_dropout(tmp_path):
    run = Run(tmp_path)
    seen = []

    def look(*_):
        seen.append((run.model.training, tn.is_grad_enabled(), run.model[0].weight.data.copy()))
        return {"val_loss": 1.0}

    run.fit(1, validate=look, on_epoch=look)
    sections, _ = load_checkpoint(tmp_path / "last.npz")
    for training, recording, weight in seen:
        assert not training and not recording
        np.testing.assert_array_equal(weight, sections["average"]["averages"]["0.weight"])
    assert len(seen) == 2 and run.model.training
    np.testing.assert_array_equal(run.model[0].weight.data, sections["model"]["0.weight"])
    assert not np.array_equal(sections["model"]["0.weight"], seen[0][2])
    load_weights(tmp_path / "best.npz", run.model)
    np.testing.assert_array_equal(run.model[0].weight.data, seen[0][2])
    assert set(load_checkpoint(tmp_path / "best.npz")[0]) == {"model"}


@pytest.mark.parametrize(
    "mode, scores, best_epoch",
    [
        ("min", [math.nan, 0.9, 0.2, math.nan], 3),
        ("max", [math.nan, 0.9, 0.2, math.nan], 2),
        ("min", [0.5, 0.5, 0.7, 0.5], 1),  # equal: the earlier epoch stays
        ("max", [0.1, 0.5, 0.5, 0.3], 2),
    ],
)
def test_best_weights_are_those_of_the_best_epoch(tmp_path, mode, scores, best_epoch):
    scores = iter(scores)
    Run(tmp_path).fit(validate=lambda: {"score": next(scores)}, best=("score", mode))
    _, meta = load_checkpoint(tmp_path / "best.npz")
    assert meta["metrics"]["epoch"] == best_epoch


def test_a_metric_that_is_not_always_there_has_an_empty_cell(tmp_path):
    rare = iter([{"val_loss": 2.0}, {"val_loss": 1.0, "val_ap": 0.5}, {"val_loss": 1.5}])
    Run(tmp_path).fit(3, validate=lambda: next(rare))
    assert [row["val_ap"] for row in table(tmp_path)] == ["", "0.5", ""]


def test_schedule_steps_by_batch_and_plateau_by_epoch(tmp_path, whole):
    assert load_checkpoint(whole / "last.npz")[0]["schedule"]["steps"] == EPOCHS * BATCHES
    run = Run(tmp_path, schedule=None)
    run.trainer.schedule = ReduceOnPlateau(run.optimizer, decay=0.5, patience=0)
    losses = iter([3.0, 2.0, 2.5, 1.0])
    run.fit(validate=lambda: {"val_loss": next(losses)})
    assert run.trainer.schedule.steps == EPOCHS
    assert [float(row["lr"]) for row in table(tmp_path)] == [0.01, 0.01, 0.01, 0.005]  # after the third
    with pytest.raises(ValueError, match="mode is 'min'"):
        run.fit(best=("val_score", "max"))


def test_an_earlier_run_is_moved_not_overwritten(tmp_path, capsys):
    Run(tmp_path).fit(1)
    first = (tmp_path / "last.npz").read_bytes()
    (tmp_path / "mine.txt").write_text("not the trainer's")
    Run(tmp_path).fit(2)
    assert (tmp_path / "earlier-1" / "last.npz").read_bytes() == first
    assert len(table(tmp_path / "earlier-1")) == 1 and len(table(tmp_path)) == 2
    assert (tmp_path / "mine.txt").exists()
    assert "earlier-1" in capsys.readouterr().out
    (tmp_path / "last.npz").unlink()  # without it, the results of the run are no less worth
    Run(tmp_path).fit(1)
    assert len(table(tmp_path / "earlier-2")) == 2 and (tmp_path / "earlier-2" / "best.npz").exists()


def test_two_runs_cannot_share_a_folder(tmp_path):
    """A lock ends with its process: test_a_killed_process_leaves_a_good_checkpoint resumes after each kill."""
    first, refused = Run(tmp_path), []

    def second():
        for resume in (False, True):
            with pytest.raises(CheckpointError) as error:
                Run(tmp_path).fit(resume=resume)
            refused.append(str(error.value))

    first.on_call[6] = second
    first.fit(2)
    assert len(refused) == 2 and len(table(tmp_path)) == 2 and not (tmp_path / "earlier-1").exists()
    assert all(f"{tmp_path} is in use by another run, process {os.getpid()}: " in message for message in refused)
    Run(tmp_path).fit(3, resume=True)


# ---------------------------------------------------------------------------------------- resuming
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_two_and_two_epochs_equal_four(tmp_path, whole, backend):
    with tn.use_backend(backend):
        if backend == "cpu":
            whole = tmp_path / "whole"
            Run(whole).fit()
        out = tmp_path / "parts"
        Run(out).fit(2)
        again = Run(out)
        again.model[0].weight.data[...] = 7  # the weights before the resume must not matter
        again.fit(resume=True)
    assert_same_run(out, whole)


@pytest.mark.parametrize("batch", [1, 6, 8, 16])  # first, within an epoch, last of an epoch, last of the run
def test_a_run_interrupted_in_mid_epoch_goes_on_bit_for_bit(tmp_path, whole, batch, capsys):
    run = Run(tmp_path)
    run.on_call[batch] = press_ctrl_c
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as exit:
        run.fit()
    assert exit.value.code == 130 and run.calls == batch, "the batch is finished, and no other begun"
    assert signal.getsignal(signal.SIGINT) is handler
    assert run.trainer.resume_command in capsys.readouterr().out
    again = Run(tmp_path)
    again.fit(resume=True)
    assert again.calls == EPOCHS * BATCHES - batch
    assert_same_run(tmp_path, whole)


def test_an_interruption_while_validating_loses_nothing(tmp_path, whole):
    run = Run(tmp_path)
    validate = run.validate

    def interrupted():
        if run.calls == 2 * BATCHES:
            press_ctrl_c()
        return validate()

    with pytest.raises(SystemExit):
        run.fit(validate=interrupted)
    assert len(table(tmp_path)) == 2
    Run(tmp_path).fit(resume=True)
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("batch", [6, 8])
def test_the_seconds_of_an_epoch_add_up_over_an_interruption(tmp_path, monkeypatch, batch):
    """A clock that goes on by one second in each batch, by 100 between the runs."""
    now = [0.0]
    monkeypatch.setattr("tinynet.training.train.time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def run_with_clock():
        run = Run(tmp_path, average=None)
        loss = run.loss
        run.loss = lambda *data: (now.__setitem__(0, now[0] + 1), loss(*data))[1]
        return run

    first = run_with_clock()
    first.on_call[batch] = press_ctrl_c
    with pytest.raises(SystemExit):
        first.fit(validate=None)
    now[0] += 100
    run_with_clock().fit(validate=None, resume=True)
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert [float(row["seconds"]) for row in csv.DictReader(file)] == [4, 4, 4, 4]


class Scaled(nn.Module):
    """A linear layer and one factor: a parameter without axes."""

    def __init__(self):
        self.layer = nn.Linear(3, 1)
        self.factor = nn.Parameter(np.float32(0.3))

    def forward(self, x):
        return self.layer(x) * self.factor


def test_a_parameter_without_axes_goes_on_bit_for_bit(tmp_path):
    def run(folder, epochs, resume=False):
        tn.seed(3)
        one = Run(tmp_path / folder, Scaled())
        one.fit(epochs, resume=resume)
        return one.model.factor

    whole = run("whole", 4)
    run("parts", 2)
    resumed = run("parts", 4, resume=True)
    assert resumed.dtype == np.float32 and resumed.item() == whole.item() != np.float32(0.3)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    model = Scaled()
    load_weights(tmp_path / "whole" / "best.npz", model)
    assert model.factor.shape == () and model.factor.item() != np.float32(0.3)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    run = Run(tmp_path)
    run.on_call[6] = lambda: (press_ctrl_c(), press_ctrl_c())
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert load_checkpoint(tmp_path / "last.npz")[0]["progress"]["epoch"] == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_rows_beyond_the_checkpoint_are_cut(tmp_path, whole):
    Run(tmp_path).fit(2)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("3,0.1,0.1,0.1,0.1,0.1\n")
    run = Run(tmp_path)
    run.on_call[1] = lambda: lengths.append(len(table(tmp_path)))
    lengths = []
    run.fit(resume=True)
    assert lengths == [2]
    assert_same_run(tmp_path, whole)


def test_resume_command_is_this_process_with_the_flag():
    command = shlex.split(Run("unused").trainer.resume_command)
    assert command == [*sys.orig_argv, "--resume"]


def test_resume_refuses_another_run(tmp_path, capsys):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*last\.npz"):
        Run(tmp_path / "empty").fit(resume=True)

    out = tmp_path / "run"
    interrupted = Run(out, settings={"lr": 0.1})
    interrupted.on_call[2] = press_ctrl_c
    with pytest.raises(SystemExit):
        interrupted.fit()
    before = (out / "last.npz").read_bytes()
    with pytest.raises(CheckpointError, match=r"(?s)last\.npz.*3\.weight has shape \(8, 1\), \(8, 2\) is needed"):
        Run(out, nn.Sequential(nn.Linear(3, 8), nn.ELU(), nn.Dropout(0.3), nn.Linear(8, 2))).fit(resume=True)
    with pytest.raises(CheckpointError, match="with this run, model, optimizer, progress, schedule are needed"):
        Run(out, average=None).fit(resume=True)
    with pytest.raises(CheckpointError, match="batch 2 of 4, an epoch has 7 batches now"):
        Run(out, batch_size=2).fit(resume=True)
    assert (out / "last.npz").read_bytes() == before
    Run(out, settings={"lr": 0.5}).fit(1, resume=True)
    assert "lr was 0.1, is 0.5 now; the checkpoint's learning rate is kept" in capsys.readouterr().out


def without_state(name, *path):
    def change(sections, meta):
        place = {"meta": meta, **sections}[name]
        for part in path[:-1]:
            place = place[part]
        del place[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_state("progress", "epoch"), "lacks epoch"),
        (without_state("progress", "best"), "lacks best"),
        (without_state("meta", "history"), "lacks history"),
        (without_state("optimizer", "mean", "1"), "mean"),
        (without_state("optimizer", "square"), "square"),
        (without_state("schedule", "steps"), "steps"),
        (without_state("average", "averages", "3.bias"), "3.bias"),
        (without_state("model", "2.random_state"), "2.random_state"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_refused(tmp_path, change, message):
    Run(tmp_path).fit(1)
    sections, meta = load_checkpoint(tmp_path / "last.npz")
    change(sections, meta)
    save_checkpoint(tmp_path / "last.npz", sections, meta)
    run = Run(tmp_path)
    with pytest.raises(CheckpointError, match=rf"last\.npz.*(?s:.*){message}"):
        run.fit(resume=True)
    assert run.calls == 0


def test_resume_needs_the_best_weights(tmp_path):
    Run(tmp_path).fit(2)
    (tmp_path / "best.npz").unlink()
    with pytest.raises(CheckpointError, match=r"best\.npz is missing: put it back"):
        Run(tmp_path).fit(3, resume=True)


def test_of_several_runs_one_may_not_have_begun(tmp_path, whole, capsys):
    Run(tmp_path / "first").fit(2)
    for name in ("first", "second"):
        Run(tmp_path / name).fit(resume=True, runs=2)
        assert_same_run(tmp_path / name, whole)
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'second'} holds no run yet" in printed and f"{tmp_path / 'first'} holds" not in printed


def test_nothing_to_do_is_said(tmp_path, capsys):
    first = Run(tmp_path).fit(2)
    run = Run(tmp_path)
    assert run.fit(2, resume=True) == first
    assert run.calls == 0 and "2 epochs are done already" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_process_leaves_a_good_checkpoint(tmp_path):
    """kill -9 at random moments of a loop that saves most of the time; the resumed run must give the same result."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            import tinynet as tn
            from tinynet import nn, train, viz
            from tinynet.data.loader import DataLoader
            from tinynet.optim import Adam

            viz.plot_curve = lambda *paths: None
            tn.seed(0)
            model = nn.Sequential(nn.Linear(2, 300), nn.Dropout(0.2), nn.Linear(300, 300), nn.Linear(300, 1))
            x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
            loader = DataLoader(list(zip(x, x[:, :1] * x[:, 1:])), 4)
            loss = lambda x, y: tn.mean((model(x) - y) ** 2)
            with tn.use_backend("reference"):
                trainer = train.Trainer(model, Adam(model.parameters(), 1e-4), loss, sys.argv[1])
                trainer.fit(loader, 30, resume="--resume" in sys.argv)
            """
        )
    )
    rng = np.random.default_rng(0)
    environment = {**os.environ, "PYTHONPATH": str(Path(tn.__file__).parents[1])}
    out, whole = tmp_path / "killed", tmp_path / "whole"
    kills = 0
    for attempt in range(3):
        arguments = [sys.executable, script, out, *(["--resume"] if attempt else [])]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
        sections, _ = load_checkpoint(out / "last.npz")
        assert np.isfinite(sections["model"]["2.weight"]).all()
    assert kills >= 2, "the processes ended before they could be killed: this test shows nothing"
    for arguments in ([out, "--resume"], [whole]):
        subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True, env=environment)
    assert_same_run(out, whole)
    assert not list(out.glob(".last*"))


# ---------------------------------------------------------------------------------------- files that cannot be written
def test_a_folder_that_cannot_be_written_is_noticed_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        run = Run(out)
        with pytest.raises(CheckpointError, match=r"could not write .*file"):
            run.fit()
        assert run.calls == 0


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    run = Run(tmp_path, nn.Sequential(nn.Linear(3, 2000), nn.Linear(2000, 1)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run.on_call[BATCHES + 1] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(CheckpointError, match="could not save"):
            run.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(tmp_path / "last.npz")[0]["progress"]["epoch"] == 1
    assert load_checkpoint(tmp_path / "best.npz")[1]["metrics"]["epoch"] == 1
    assert not list(tmp_path.glob(".*.part*"))


# ---------------------------------------------------------------------------------------- values that are not finite
class Spoiler(nn.Module):
    """Returns its input, changed by `spoil` once that is set."""

    spoil = None

    def forward(self, x):
        return x if self.spoil is None else self.spoil(x)


def spoiled_run(out, spoil, batch, p=0.0, **options):
    """A run whose layer `2` applies `spoil` from the given batch on."""
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(p), Spoiler(), nn.ELU(), nn.Linear(8, 1))
    run = Run(out, model, **options)
    run.on_call[batch] = lambda: setattr(model[2], "spoil", spoil)
    return run


def test_the_first_layer_that_is_not_finite_is_named_and_the_good_checkpoint_kept(tmp_path):
    run = spoiled_run(tmp_path, lambda x: x * np.float32(np.inf), batch=BATCHES + 2)
    with pytest.raises(TrainingError) as error:
        run.fit()
    message = str(error.value)
    assert "epoch 2, step 6 (batch 2 of 4): the loss is" in message
    assert "first in the output of 2 (Spoiler)" in message
    assert "lower --lr" in message and "last good state is kept in" in message
    sections, meta = load_checkpoint(tmp_path / "last.npz")
    assert sections["progress"]["epoch"] == 1 and len(meta["history"]) == 1


@pytest.mark.parametrize("batch", range(1, 7))
def test_the_search_repeats_the_masks_of_dropout(tmp_path, batch):
    def zero_divided_by_zero_if_the_first_is_dropped(x):
        return x + (x[:1, :1] * 0) / x[:1, :1]

    run = spoiled_run(tmp_path, zero_divided_by_zero_if_the_first_is_dropped, batch, p=0.5)
    with pytest.raises(TrainingError, match=r"output of 2 \(Spoiler\)"):
        run.fit()


def test_nan_in_the_data_is_named_and_the_learning_rate_not_blamed(tmp_path):
    data = NoisyPoints()
    data.x[11, 1] = np.nan
    with pytest.raises(TrainingError, match=r"array 0 of the batch, \([24], 3\), holds 1 NaN and 0 infinite") as error:
        Run(tmp_path, data=data).fit()
    assert "--lr" not in str(error.value)


def test_a_weight_that_is_not_finite_is_named(tmp_path):
    run = Run(tmp_path)

    def plant():
        run.model[3].weight.data[2] = np.inf

    run.on_call[3] = plant
    with pytest.raises(TrainingError, match=r"the weight 3\.weight holds 0 NaN and 1 infinite of 8 values"):
        run.fit()


def test_a_loss_function_at_fault_is_said(tmp_path):
    run = Run(tmp_path, loss=lambda x, y: tn.mean(run.model(x) * 0) + tn.log(tn.sum(y * 0)))
    with pytest.raises(TrainingError, match="comes from the loss function") as error:
        run.fit()
    assert "--lr" not in str(error.value), "it was never finite"


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path):
    run = Run(tmp_path, loss=lambda x, y: tn.sqrt(tn.mean((run.model(x) * 0) ** 2)))  # 0, with derivative 0 / 0
    before = run.model.state_dict()
    with pytest.raises(TrainingError, match=r"its gradient is not finite\n  the gradient of 3\.bias holds 1 NaN"):
        run.fit()
    np.testing.assert_array_equal(run.model[3].weight.data, before["3.weight"])


def test_a_loss_that_diverges_stops_before_it_is_infinite(tmp_path):
    run = Run(tmp_path, optimizer=lambda model: SGD(model.parameters(), 1e3), max_norm=None, schedule=None)
    with pytest.raises(TrainingError, match="it has diverged"):
        run.fit()
    assert not (tmp_path / "last.npz").exists()


@pytest.mark.parametrize(
    "batch_size, advice",
    [(4, "a batch has 4 examples: start again with half of that, --batch-size 2"), (1, "one example alone")],
)
def test_full_memory_names_the_batch_size_to_try_and_keeps_the_checkpoint(tmp_path, batch_size, advice):
    def no_memory():
        raise MemoryError("conv2d: no memory for a result of shape (4, 8): 128 bytes")

    run = Run(tmp_path, batch_size=batch_size)
    run.fit(1, validate=None)
    before = (tmp_path / "last.npz").read_bytes()
    run.on_call[run.calls + 2] = no_memory
    with pytest.raises(TrainingError, match=advice) as caught:
        run.fit(2, validate=None, resume=True)
    assert "epoch 2" in str(caught.value) and "out of memory: conv2d: no memory for a result" in str(caught.value)
    assert str(tmp_path / "last.npz") in str(caught.value) and "--lr" not in str(caught.value)
    assert (tmp_path / "last.npz").read_bytes() == before


def test_a_bad_last_step_of_an_epoch_is_not_saved(tmp_path):
    class Faulty(SGD):
        def step(self):
            super().step()
            if self.steps == 2 * BATCHES:
                self.parameters[0].data[0, 0] = np.nan

    run = Run(tmp_path, optimizer=lambda model: Faulty(model.parameters(), 1e-3))
    with pytest.raises(TrainingError, match=r"after the last step, 0\.weight holds 1 NaN"):
        run.fit()
    assert load_checkpoint(tmp_path / "last.npz")[0]["progress"]["epoch"] == 1
    assert load_checkpoint(tmp_path / "best.npz")[1]["metrics"]["epoch"] == 1


def test_a_loss_with_unlucky_batches_goes_on(tmp_path):
    run = Run(tmp_path)
    scales = {5: 1e4, 6: -1e4}
    plain = run.loss
    run.loss = lambda x, y: plain(x, y) * scales.get(run.calls, 1.0)
    run.fit(validate=None)
    assert len(table(tmp_path)) == EPOCHS


# ---------------------------------------------------------------------------------------- arguments and threads
def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="epochs is 0"):
        Run(tmp_path).fit(0)
    with pytest.raises(ValueError, match="'min' or 'max'"):
        Run(tmp_path).fit(best=("val_loss", "lowest"))
    with pytest.raises(ValueError, match=r"'val_dice', but validate\(\) gave val_loss, val_score"):
        Run(tmp_path).fit(best=("val_dice", "max"))
    for items, kind in (([{"x": 1.0}] * 3, "dict"), (np.zeros((3, 2)), "ndarray")):
        run = Run(tmp_path)
        run.loader = DataLoader(items, 2)
        with pytest.raises(TypeError, match=f"a batch is a {kind}; loss\\(\\*batch\\) needs a tuple"):
            run.fit()
    with pytest.raises(ValueError, match="max_norm is 0"):
        Run(tmp_path, max_norm=0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"optimizer": lambda m: Adam(copy.deepcopy(m))}, ValueError, "4 of the optimizer's 4 parameters.* number 0"),
        (
            {"optimizer": lambda m: Adam([*m.parameters(), tn.tensor([1.0], requires_grad=True)])},
            ValueError,
            "1 of the optimizer's 5 parameters, the first is number 4, are not in the model",
        ),
        ({"schedule": CosineDecay(Adam(nn.Linear(1, 1)), 9)}, ValueError, "schedule changes another optimizer"),
        ({"average": WeightAverage(nn.Linear(1, 1))}, ValueError, "average is of another model"),
    ],
)
def test_parts_of_another_model_are_refused(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        Run(tmp_path, **settings)


def test_parameters_that_the_optimizer_does_not_have_are_named(tmp_path, capsys):
    Run(tmp_path, optimizer=lambda model: Adam(model[3]))
    assert capsys.readouterr().out.startswith("note: the optimizer does not train 0.weight, 0.bias; is it older")
    Run(tmp_path)
    assert capsys.readouterr().out == ""


def test_a_loss_that_calls_another_model_trains_nothing_and_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        Run(tmp_path, loss=mean_square(nn.Linear(3, 1))).fit(1)


def test_training_works_in_another_thread(tmp_path):
    metrics = {}

    def work():
        with tn.use_backend("reference"):
            metrics.update(Run(tmp_path).fit(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert metrics["epoch"] == 1
