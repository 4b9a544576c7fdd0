"""`python -m tinynet op`: what it shows of an op folder, and of edits in a copy of the package."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from op_folders import missing
from processes import ROOT

from tinynet.errors import UsageError
from tinynet.learn.watch import command, watch
from tinynet.learn.watch.checks import Checked, Origin, Time, timed
from tinynet.learn.watch.process import Failed, sentence
from tinynet.learn.watch.show import describe, row
from tinynet.learn.watch.targets import OPS, Target, files_of, targets_of
from tinynet.learn.watch.watch import Files, Known, Saved


# --------------------------------------------------------------------------------- the files and kernels of an op
def test_ops_are_listed(capsys):
    command.main([])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["elu", "ELU:"] for line in lines)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="there is no op 'elo'"):
        command.main(["elo"])
    with pytest.raises(UsageError, match="--watch needs the name"):
        command.main(["--watch"])


def test_an_op_is_shown_with_what_this_machine_lacks(capsys):
    describe("conv2d")
    out = capsys.readouterr().out
    assert "conv2d.cu              conv2d. The letters" in out  # not its line `// with ...cuh`
    assert "backward_weight        gw[ky, kx" in out
    assert (missing("cuda") or "here, by cuda.py") in out


def test_the_kernels_of_an_activation_are_its_two_formulas(capsys):
    describe("sigmoid")
    shown = capsys.readouterr().out
    assert "forward                value(x): e = exp_of_nonpositive(-abs(x)); return" in shown
    assert "backward               gradient(gy, y): return" in shown


def test_targets_are_the_kernels_that_differ():
    targets = targets_of("conv2d", "cpu")
    assert len({t for t in targets if t.kernel == "backward_bias"}) == 1
    assert {t.implementation for t in targets if t.kernel == "forward"} >= {"naive", "blocked", "winograd4"}
    assert targets_of("adam", "reference") == [Target("reference", "default", "step")]


def test_a_target_is_built_from_what_it_imports_and_what_that_includes():
    names = {f.relative_to(OPS).as_posix() for f in files_of("elu", Target("cuda-sim", "default", "forward"))}
    assert {"_cuda/activations.cuh", "_cuda/common.cuh"} <= names
    assert {f"activations/{name}" for name in ("cuda.py", "cases.py", "entries.py", "activations.cu")} <= names
    names = {f.relative_to(OPS).as_posix() for f in files_of("elu", Target("cpu", "default", "forward"))}
    assert {"activations/cpu.py", "_cpu/elementwise.py", "_cpu/fastmath.py"} <= names
    assert "activations/reference.py" not in names


def test_why_a_version_of_conv2d_runs(capsys):
    shapes = ["3x3x32x32", "1x1x32x1", "3x3x32x32,stride=2,padding=1", "3x3x32x32,padding=1x0,dtype=float64,groups=2"]
    command.main(["conv2d", "--why", *shapes])
    lines = capsys.readouterr().out.splitlines()
    versions = ["winograd4", "pointwise", "blocked", "blocked"]
    assert [line.split(":")[1].split()[0] for line in lines] == versions
    assert "4 times fewer multiplications" in lines[0]
    for shape in ("3x3", "3x3x32x32,stride", "3x3x32x32,step=2", "axbxcxd", "1x1x1x1,stride=1x2x3", "1x1x1x1,dtype=f0"):
        with pytest.raises(ValueError, match="is not a shape; it must be KHxKWxC_INxC_OUT"):
            command.main(["conv2d", "--why", shape])
    with pytest.raises(UsageError, match="--why is for conv2d"):
        command.main(["elu", "--why", "3x3x32x32"])


# ---------------------------------------------------------------------------------------- what is checked, and when
def test_saves_are_seen_once_and_files_that_are_gone_are_not(tmp_path, monkeypatch):
    (tmp_path / "elu").mkdir()
    kernel = tmp_path / "elu" / "cpu.py"
    kernel.write_text("1")
    monkeypatch.setattr(watch, "folder_of", lambda op: tmp_path / op)
    files = Files("elu")
    files.raise_if_saved()
    kernel.write_text("12")
    with pytest.raises(Saved):
        files.raise_if_saved()
    assert files.changed == {kernel}
    files.changed.clear()
    kernel.unlink()  # the first step of an editor that replaces the file
    files.raise_if_saved()
    kernel.write_text("123")
    files.look()
    assert files.changed == {kernel}


def test_what_the_file_itself_holds_comes_first_and_of_that_what_is_compiled_soonest():
    known, own, other = Known(), Path("/ops/own.cu"), Path("/ops/other.cu")
    slow, quick, caller = (Target("cuda-sim", name, "forward") for name in ("slow", "quick", "caller"))
    home = Path("/ops/cuda.py")
    for target, builds in (
        (slow, [(own, {"N": 1}), (own, {"N": 2})]),
        (quick, [(own, {})]),
        (caller, [(other, {})]),
    ):
        known.remember(target, Checked(True, 1, 0.0, 1.0, "", {own, home}, builds))
    known.unproven = {own}
    origins = {t: Origin(home, set()) for t in (caller, slow, quick)}
    assert known.stages(origins) == [[quick], [slow], [caller]]
    known.unproven = {other}
    assert known.stages(origins) == []  # none was seen to use it


def test_an_exception_is_told_with_its_line():
    def broken():
        exec(compile("x = 1\ny = x.nothing", str(OPS / "dice" / "reference.py"), "exec"))

    with pytest.raises(AttributeError) as caught:
        broken()
    assert sentence(caught.value).startswith("tinynet/ops/dice/reference.py:2: `")
    assert "no attribute 'nothing'" in sentence(caught.value)
    assert "cannot be checked" in row(Target("cpu", "default", "forward"), Failed(sentence(caught.value)))


# ---------------------------------------------------------------------------------------- edits of a copy
@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package, with a shorter patience for endless loops."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "tinynet", root / "tinynet", ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    child = root / "tinynet" / "learn" / "watch" / "process.py"
    child.write_text(child.read_text().replace("SECONDS = 20.0", "SECONDS = 5.0"))
    return root


ASK = """
import json, sys
from tinynet.learn.watch.checks import checked
from tinynet.learn.watch.targets import Target
from tinynet.learn.watch.workers import Workers
with Workers("relu") as workers:
    answer = workers.ask(checked, Target(*sys.argv[1:]))
print(json.dumps({"right": answer.right, **vars(answer)}, default=str))
"""


def answer(root, file, old, new, *target):
    """What is said of a target while `old` in a file of the copy is `new`."""
    path = root / "tinynet" / "ops" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK, *target],
            cwd=root,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        path.write_text(text)
    return {**json.loads(done.stdout), "printed": done.stderr}


REFERENCE = ("reference", "default", "backward")
# The CPU compiles the same formula, so the derivatives show that it is wrong.
DERIVATIVES = ("reference", "default", "derivatives")
ENTRIES = "activations/entries.py"
BACKWARD = "return where(y > 0, gy, 0)"


def test_a_wrong_reference_is_found_and_named(copy):
    found = answer(copy, ENTRIES, BACKWARD, BACKWARD.replace("gy", "-gy"), *DERIVATIVES)
    assert not found.get("right", True) and "the mistake:" in found["report"], found
    assert found["error"] > found["allowed"]


@pytest.mark.slow
def test_an_endless_loop_is_ended_and_its_line_named(copy):
    found = answer(copy, ENTRIES, BACKWARD, "while True:\n            pass\n        " + BACKWARD, *REFERENCE)
    assert "tinynet/ops/activations/entries.py:" in found["sentence"] and "an endless loop?" in found["sentence"]


def test_a_crash_is_told(copy):
    crash = "import ctypes\n        ctypes.string_at(0)\n        "
    found = answer(copy, ENTRIES, BACKWARD, crash + BACKWARD, *REFERENCE)
    assert "tinynet/ops/activations/entries.py:" in found["sentence"] and "it ended the process" in found["sentence"]


def test_a_syntax_error_is_told_with_its_line(copy):
    found = answer(copy, ENTRIES, BACKWARD, "return = = ", *REFERENCE)
    assert "tinynet/ops/activations/entries.py:" in found["sentence"] and "SyntaxError" in found["sentence"]


@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
def test_a_kernel_of_the_emulator(copy):
    target = ("cuda-sim", "default", "backward")
    file = "activations/activations.cu"
    found = answer(copy, file, "return y > 0 ? gy : real(0)", "return y > 0 ? gy : gx[0]", *target)
    assert f"tinynet/ops/{file}" in found["sentence"] and "cannot be compiled" in found["sentence"]


def test_prints_of_a_kernel_are_shown_up_to_a_limit(copy):
    flood = "for k in range(1000): print('line', k)\n        "
    found = answer(copy, ENTRIES, BACKWARD, flood + BACKWARD, *DERIVATIVES)
    assert found["right"] and "line 7\n" in found["printed"] and "are not shown" in found["printed"]
    assert "line 999" not in found["printed"]


@pytest.mark.slow
def test_watching_says_what_a_save_did_and_goes_on(copy):
    """The save interrupts the first table. Ctrl-C ends the command quietly."""
    path = copy / "tinynet" / "ops" / "relu" / "reference.py"
    path = copy / "tinynet" / "ops" / ENTRIES
    text = path.read_text()
    command_line = [sys.executable, "-u", "-m", "tinynet", "op", "relu", "--watch"]
    process = subprocess.Popen(command_line, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen = []

    def until(words):
        for line in process.stdout:
            seen.append(line)
            if words in line:
                return line
        raise AssertionError("".join(seen))

    try:
        until("tier      by")  # by now the files are watched
        path.write_text(text.replace(BACKWARD, BACKWARD.replace("gy", "2 * gy")))
        assert until("after the save").startswith("not right")
        assert any("exactly 2 times the right" in line for line in seen), seen
        path.write_text(text.replace(BACKWARD, "return = 0"))
        until("SyntaxError")
        assert until("after the save").startswith("not right")
        path.write_text(text)
        assert until("after the save").startswith("right")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in "".join([*seen, process.stdout.read()])
    finally:
        path.write_text(text)
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_time_says_when_the_machine_was_busy(monkeypatch):
    assert str(Time(3.1)).strip() == "3.100 ms"
    assert "other programs used 1.5 cores: too long" in str(Time(12.5, 1.5))
    busy = iter([10.0, 18.0])  # 8 s of the cores, of which this process used next to nothing
    monkeypatch.setattr("tinynet.tools.bench.machine.busy_seconds", lambda: next(busy))
    monkeypatch.setattr("tinynet.learn.watch.process.clock", SimpleNamespace(start=lambda: None), raising=False)
    time = timed("relu", Target("reference", "default", "forward"))
    assert time.others > 1
