"""`tinynet nuclei`: the script's commands by another name, and what `predict` does with a user's folders."""

import re
import shlex
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet as tn
from tinynet.__main__ import main as tinynet_main
from tinynet.errors import UsageError
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import print_next, program
from tinynet.tools.examples import program_name
from tinynet.training.interruption import resume_command

script = load_example("segmentation/unet_nuclei.py")


# ---------------------------------------------------------------------------------------- the command
STARTED = {  # how Python is started: how the user starts it
    ("python3", "-m", "tinynet", "nuclei"): "python -m tinynet",
    ("/usr/bin/python3", "/home/me/.venv/bin/tinynet", "nuclei"): "/home/me/.venv/bin/tinynet",
    ("python", "script.py"): "python -m tinynet",
}


@pytest.mark.parametrize("words", STARTED)
def test_help_and_errors_name_the_command_as_it_was_typed(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "orig_argv", list(words))
    with pytest.raises(SystemExit) as end:
        tinynet_main(["nuclei"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    typed = STARTED[words].rpartition("/")[2]
    assert f"usage: {typed} nuclei" in printed.replace(STARTED[words], typed)
    assert f"{STARTED[words]} nuclei train --data my_labels" in printed
    assert "examples/segmentation" not in printed and "from top to bottom" not in printed, "that is the script's help"
    for name in ("predict", "evaluate", "train", "serve"):
        assert re.search(rf"^ +{name} +\w.*", printed, re.MULTILINE) and f"{STARTED[words]} nuclei {name}" in printed
    with pytest.raises(UsageError, match=rf"\(see .*{typed} nuclei predict --help\)"):
        tinynet_main(["nuclei", "predict", "--diameter", "wide"])
    with pytest.raises(
        UsageError, match=r"no command 'sreve'; the commands are: predict, evaluate, train, serve; did you mean serve\?"
    ):
        tinynet_main(["nuclei", "sreve"])


def test_the_help_of_the_script_is_its_docstring(capsys):
    with program_name("examples/segmentation/unet_nuclei.py"), pytest.raises(SystemExit):
        script.main(["--help"])
    assert "Read it from top to bottom" in capsys.readouterr().out


def test_the_installed_command_is_named_by_its_name_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "/usr/local/bin/tinynet", "nuclei", "train"])
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/local/bin/{name}")
    assert resume_command() == "tinynet nuclei train --resume"
    print_next("python examples/no_such/mlp.py")
    assert capsys.readouterr().out == "next: tinynet run mlp\n"


def test_training_names_the_next_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tn.train.Trainer, "fit", lambda *_, **__: {})
    for name, start in (("tinynet nuclei", "tinynet nuclei"), ("examples/a b.py", "python 'examples/a b.py'")):
        with program_name(name):
            assert program() == start
            script.main(["train", "--quick", "--out", str(tmp_path)])
        weights = shlex.quote(f"{tmp_path}/best.npz")
        assert f"next: {start} evaluate --weights {weights}\n" in capsys.readouterr().out


def test_only_the_script_names_the_next_lecture(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "load_net", lambda weights: SimpleNamespace(path="weights.npz", trained_on_all=False))
    monkeypatch.setattr(script, "find_nuclei", lambda *_: [np.ones((16, 16), int)])
    sample = tn.data.Sample("a", np.zeros((16, 16, 3), np.uint8), np.ones((16, 16), int), "fluorescence", "a")
    monkeypatch.setattr(script, "load_data", lambda *_: ([sample], [sample], "one image"))
    for name, is_lecture in (("tinynet nuclei", False), ("examples/unet_nuclei.py", True)):
        with program_name(name):
            script.main(["evaluate", "--out", str(tmp_path)])
        assert ("next: " in capsys.readouterr().out) is is_lecture


def test_after_evaluation_on_own_images_training_is_next_then_prediction(monkeypatch, tmp_path, capsys):
    sample = tn.data.Sample("a", np.zeros((16, 16, 3), np.uint8), np.ones((16, 16), int), "fluorescence", "a")
    monkeypatch.setattr(script, "load_net", lambda weights: SimpleNamespace(path="weights.npz", trained_on_all=False))
    monkeypatch.setattr(script, "find_nuclei", lambda *_: [np.ones((16, 16), int)])
    monkeypatch.setattr(script, "load_data", lambda *_: ([sample], [sample], "one image"))
    for flags, following in (
        ([], "train --weights shipped --data 'my labels' --channel DAPI"),
        (["--weights", "trained/best.npz"], "predict my_folder --weights trained/best.npz --channel DAPI"),
    ):
        with program_name("tinynet nuclei"):
            script.main(["evaluate", "--data", "my labels", "--channel", "DAPI", "--out", str(tmp_path), *flags])
        assert capsys.readouterr().out.endswith(f"next: tinynet nuclei {following}\n")
