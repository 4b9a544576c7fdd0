"""Command lines: every field of a dataclass is a flag, and errors are sentences."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import ROOT

import tinynet as tn
from tinynet import cli, nn
from tinynet.errors import BackendError, CheckpointError, TrainingError, UsageError
from tinynet.tools.cli import TrainingOptions, command_line, option, parse, run, run_commands


@dataclass
class Config(TrainingOptions):
    epochs: int = option(40, "passes over the data", quick=2)
    batch_size: int = option(8, "images in a step")
    lr: float = option(1e-3, "learning rate, 100 % of it")
    loss: str = option("dice", "what is minimized", choices=("dice", "bce"))
    heads: int = option(1, "outputs", choices=(1, 3), quick=3)
    augment: bool = option(True, "distort the images")
    weights: str | None = option(None, "where to start from")
    images: tuple[str, ...] = option((), "files", nargs="+")

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"--batch-size is {self.batch_size}; at least 1 is needed")


def test_without_flags_the_defaults_hold():
    config = parse(Config, [])
    assert config == Config()
    assert (config.epochs, config.augment, config.weights, config.images) == (40, True, None, ())


def test_flags_set_fields_in_their_types():
    line = "--batch-size 4 --lr 1e-2 --loss bce --heads 3 --no-augment --weights a/b.npz --images x.png y.png --resume"
    config = parse(Config, line.split())
    assert (config.batch_size, config.lr, config.loss, config.heads) == (4, 0.01, "bce", 3)
    assert config.augment is False and config.resume is True
    assert config.weights == "a/b.npz" and config.images == ("x.png", "y.png")


@pytest.mark.parametrize("line", ["a b --epochs 3", "--epochs 3 a b"])
def test_positional_arguments(line):
    @dataclass
    class Named:
        names: tuple[str, ...] = option((), "which", positional=True, nargs="*")
        epochs: int = option(1, "passes")

    assert parse(Named, line.split()) == Named(names=("a", "b"), epochs=3)
    assert parse(Named, []).names == ()


def test_flags_win_over_quick():
    assert (parse(Config, ["--quick"]).epochs, parse(Config, ["--quick"]).heads) == (2, 3)
    assert parse(Config, ["--quick", "--epochs", "40"]).epochs == 40, "although 40 is the default"
    assert parse(Config, ["--no-quick"]).epochs == 40


@pytest.mark.parametrize(
    "line, message",
    [
        ("--batch-size four", r"--batch-size: invalid int value: 'four'"),
        ("--loss mse", r"--loss: invalid choice: 'mse'"),
        ("--heads 2", r"--heads: invalid choice: 2"),
        ("--lerning-rate 1", r"unrecognized arguments: --lerning-rate 1"),
        ("--batch-sise=4", r"unrecognized arguments: --batch-sise=4; did you mean --batch-size\?"),
        ("--batch 4", r"unrecognized arguments: --batch 4"),  # a shortened flag
        ("--lr", r"--lr: expected one argument"),
        ("--batch-size 0", r"--batch-size is 0; at least 1 is needed"),
        ("--backend cude", r"--backend: invalid choice: 'cude'"),
    ],
)
def test_a_senseless_line_names_the_flag(line, message):
    with pytest.raises(UsageError, match=message + r"[\s\S]*\(see prog --help\)"):
        parse(Config, line.split(), prog="prog")


@pytest.mark.parametrize("line", ["--epochs 0", "--epochs -3", "--seed -1", f"--seed {2**32}"])
def test_shared_flags_have_limits(line):
    flag, value = line.split()
    with pytest.raises(UsageError, match=rf"{flag} is {value}; .*\(see prog --help\)"):
        parse(TrainingOptions, line.split(), prog="prog")


def test_a_flag_without_default_is_required():
    @dataclass
    class Needs:
        images: str = option(help="what to look at")
        out: str = option("", "where to", required=True)

    assert parse(Needs, ["--images", "a", "--out", "b"]) == Needs(images="a", out="b")
    with pytest.raises(UsageError, match="required: --images, --out"):
        parse(Needs, [])


def test_help_shows_defaults_and_every_flag(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit:
        parse(Config, ["--help"], prog="prog", description="Two lines,\n  kept as they are.")
    assert exit.value.code == 0
    text = capsys.readouterr().out
    for wanted in (
        "Two lines,\n  kept as they are.",
        "passes over the data (default: 40, with --quick: 2)",
        "learning rate, 100 % of it (default: 0.001)",
        "--loss {dice,bce}",
        "--augment, --no-augment",
        "distort the images (default: yes)",
        "--batch-size INT",
    ):
        assert wanted in text
    assert "SUPPRESS" not in text and "default: None" not in text
    for flag in ("quick", "data", "seed", "backend", "epochs", "out", "resume"):
        assert f"--{flag}" in text


def test_a_decorated_main_reads_its_flags_and_runs_in_its_backend():
    @command_line(Config)
    def main(config):
        return config.epochs, tn.backend()

    assert main(["--epochs", "3", "--backend", "reference"]) == (3, "reference")
    assert main(["--quick"]) == (2, "cpu")
    with pytest.raises(UsageError, match="--heads"):
        main(["--heads", "2"])


def test_commands_call_their_function_with_their_config(capsys):
    @dataclass
    class Other:
        images: str = option("", "what to look at", required=True)

    def train(config):
        """Train it.

        More text.
        """
        return {"epochs": config.epochs}

    def predict(config):
        """Use it, 100 %."""
        return {"images": config.images}

    commands = {"train": (Config, train), "predict": (Other, predict)}
    assert run_commands(commands, ["train", "--quick"]) == {"epochs": 2}
    assert run_commands(commands, ["predict", "--images", "a"]) == {"images": "a"}
    with pytest.raises(UsageError, match=r"--images \(see prog predict --help\)"):
        run_commands(commands, ["predict"], prog="prog")
    with pytest.raises(UsageError, match=r"--image a; did you mean --images\? \(see prog predict --help\)"):
        run_commands(commands, ["predict", "--images", "a", "--image", "a"], prog="prog")
    with pytest.raises(UsageError, match=r"no command 'tain'; the commands are: train, predict; did you mean train\?"):
        run_commands(commands, ["tain"])
    with pytest.raises(UsageError, match=r"required: \{train,predict\}"):
        run_commands(commands, [])
    with pytest.raises(SystemExit):
        run_commands(commands, ["--help"])
    text = capsys.readouterr().out
    assert "Train it." in text and "Use it, 100 %." in text and "More text" not in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("examples/segmentation/unet_nuclei.py", "--help"), ("finding the nuclei", "Train the net on random crops")),
        (("examples/basics/perceptron.py", "--help"), ("perceptron",)),
        (("-m", "tinynet.data.make_split", "--help"), ("nuclei_split.csv",)),
        (("-m", "tinynet", "exercises", "list"), ("A derivative by two small steps",)),
    ],
)
def test_help_without_docstrings_in_memory(arguments, expected):
    """`python -OO` removes docstrings and assertions: nothing may depend on them."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        [sys.executable, "-OO", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert all(text.lower() in shown.lower() for text in expected), shown


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    "error, sentence",
    [
        (UsageError("unrecognized arguments: --x"), "unrecognized arguments: --x"),
        (CheckpointError("last.npz is damaged"), "last.npz is damaged"),
        (TrainingError("the loss is nan"), "the loss is nan"),
        (BackendError("CuPy is not installed"), "CuPy is not installed"),
        (FileNotFoundError(2, "No such file or directory", "a.zip"), "a.zip: No such file or directory"),
        (ValueError("Adam: lr is -1"), "Adam: lr is -1"),
        (MemoryError("Unable to allocate 9 GiB"), "out of memory: Unable to allocate 9 GiB"),
        (MemoryError(), "out of memory"),
    ],
)
def test_run_prints_errors_of_the_user_as_a_sentence(error, sentence, capsys, monkeypatch):
    monkeypatch.delenv("TINYNET_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as exit:
        run(failing(error))
    assert exit.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == f"error: {sentence}" and printed.out == ""
    assert ("TINYNET_TRACEBACK" in printed.err) == (type(error) is ValueError)
    monkeypatch.setenv("TINYNET_TRACEBACK", "1")
    with pytest.raises(type(error)):
        run(failing(error))


def test_run_leaves_the_rest_alone(capsys):
    with pytest.raises(KeyError):
        run(failing(KeyError("a mistake in the program")))
    for main, code in (
        (failing(KeyboardInterrupt()), 130),
        (failing(SystemExit(130)), 130),
        (lambda: {"skipped": 2}, 1),
    ):
        with pytest.raises(SystemExit) as exit:
            run(main)
        assert exit.value.code == code
    run(dict)  # without an error it returns


def test_settings_are_printed_first_with_sizes_and_parameters(capsys):
    with tn.use_backend("reference"):
        cli.print_settings(parse(Config, ["--lr", "0.5"]), nn.Linear(1000, 2), training_images=530)
    lines = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    printed = {name.strip(): value.strip() for name, value in filter(lambda parts: len(parts) == 2, lines)}
    assert printed["lr"] == "0.5" and printed["batch size"] == "8"
    assert printed["backend"] == "reference", "the backend in use"
    assert printed["training images"] == "530" and printed["parameters"] == "2,002"


def test_importing_what_every_script_needs_is_light():
    program = (
        "import sys, tinynet.tools.cli, tinynet.training.train\n"
        "print(*{'numba', 'scipy', 'matplotlib', 'skimage'} & {*sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tn.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == ""
