"""The benchmark: what it measures, writes and prints. No test asserts a time."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from op_folders import missing
from PIL import Image

import tinynet as tn
from tinynet import optim
from tinynet.__main__ import COMMANDS
from tinynet.__main__ import main as tinynet_main
from tinynet.backends import registry
from tinynet.backends.registry import implementation_kernel, kernel_names, use_kernels
from tinynet.backends.registry import ops as all_ops
from tinynet.errors import UsageError
from tinynet.tools.bench import (
    against,
    calls,
    examples,
    machine,
    nets,
    ops,
    peak,
    processes,
    profile,
    turns,
    unet,
    work,
)
from tinynet.tools.bench.main import main
from tinynet.tools.bench.peers import PEERS, tinynet_peer
from tinynet.tools.bench.processes import Child, ChildError
from tinynet.tools.cli import run

ROOT = Path(tn.__file__).parents[1]
TINY = ["--batch", "1", "--size", "16", "--threads", "1"]


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(turns, "SECONDS_PER_TURN", 0.02)


@pytest.fixture(autouse=True)
def tinynet_in_other_processes(monkeypatch):
    """The child processes find this tinynet, wherever the tests run from."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))


@pytest.fixture
def without_frameworks(tmp_path, monkeypatch):
    """PyTorch and Keras look as if they were not installed."""
    for name in ("torch", "keras"):
        (tmp_path / "missing" / name).mkdir(parents=True)
        text = f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n"
        (tmp_path / "missing" / name / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'missing'}{os.pathsep}{os.environ['PYTHONPATH']}")


# ---------------------------------------------------------------------------------------- bench unet
def test_unet_prints_a_table_and_writes_json_and_chart(tmp_path, capsys, without_frameworks):
    files = ["--json", str(tmp_path / "new" / "b.json"), "--chart", str(tmp_path / "b.png")]
    main(["unet", *TINY, "--turns", "2", "--against", "torch,textbook,keras", *files])

    printed = capsys.readouterr().out
    for word in ("1 x 16 x 16 x 3", "textbook NumPy (im2col)", "median ms", "ratio", "peak MB", "1,941,105"):
        assert word in printed, word
    for name in ("torch", "keras"):
        assert f'left out: {name}: {name} is not installed (pip install -e ".[bench]")' in printed

    report = json.loads((tmp_path / "new" / "b.json").read_text())
    assert report["command"] == "unet"
    assert report["settings"]["batch"] == 1 and report["settings"]["mode"] == "train"
    assert report["machine"]["cores"] >= 1 and report["machine"]["numpy"] == np.__version__
    assert set(report["peers"]) == {"tinynet", "textbook"} and set(report["left_out"]) == {"torch", "keras"}
    ours = report["peers"]["tinynet"]
    assert ours["ratio"] == 1 and ours["parameters"] == 1_941_105 and ours["peak_mb"] > 0
    for peer in report["peers"].values():
        times = [ms for turn in peer["turns"] for ms in turn["times_ms"]]
        assert len(peer["turns"]) >= 2 and min(times) > 0
        assert min(times) <= peer["min_ms"] <= peer["median_ms"] <= max(times)
        assert peer["ratio"] == pytest.approx(ours["median_ms"] / peer["median_ms"])
        assert 0 < peer["value"] < 1, "the soft Dice loss"

    with Image.open(tmp_path / "b.png") as chart:
        assert chart.size[0] > 500 and np.asarray(chart.convert("L")).std() > 10


def test_unet_predicts_too_and_all_compute_the_same(capsys):
    found = main(["unet", "--mode", "infer", *TINY, "--turns", "1", "--against", "textbook"])
    values = [peer["value"] for peer in found["peers"].values()]
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    assert "one prediction" in capsys.readouterr().out


@pytest.mark.bench
@pytest.mark.parametrize("name", ["torch", "keras"])
def test_peers_predict_the_same_as_tinynet_and_learn_alike(name):
    pytest.importorskip(name)
    for mode, steps, tolerance in (("infer", 1, 1e-5), ("train", 4, 0.02)):  # dropout's masks differ
        values = {}
        for peer in ("tinynet", name):
            child = turns.start(peer, f"{mode}-2x32", threads=1)
            values[peer] = child.ask(steps)["value"]
            assert child.started["parameters"] == 1_941_105
            child.close()
        assert values[name] == pytest.approx(values["tinynet"], abs=tolerance)


def test_only_quiet_turns_count_if_there_are_any():
    result = turns.Result("x", 0.0, 0.0, 1, {})
    result.turns = [turns.Turn([9.0], others_busy=0.5), turns.Turn([1.0, 2.0], others_busy=0.0)]
    assert result.times_ms == [1.0, 2.0]
    result.turns.pop()
    assert result.times_ms == [9.0]
    assert turns.Turn([1.0], others_busy=float("nan")).is_quiet, "where the system does not tell, all turns count"


def result(title, quiet, loud, ms=1.0):
    """A contestant's result with so many quiet turns of so many milliseconds, and so many slow ones."""
    taken = [turns.Turn([ms], others_busy=0.0)] * quiet + [turns.Turn([99.0], others_busy=0.5)] * loud
    return turns.Result(title, 0.0, 0.0, 10, {}, taken, peak_mb=100.0)


def test_how_many_turns_were_quiet_is_said_and_written():
    results = {"tinynet": result("ours", 7, 2), "torch": result("theirs", 1, 20), "keras": result("third", 0, 21)}
    lines = unet.format_results(results, turns=7).splitlines()
    assert "only 1 of 21 turns of theirs were quiet: its figures stand on these" in lines
    assert "other processes were busy in every turn of third: do not trust its figures" in lines
    assert not any("of ours" in line for line in lines)
    report = unet.as_report(unet.UnetConfig(), turns.Results(results))
    assert [peer["quiet_turns"] for peer in report["peers"].values()] == [7, 1, 0]


def test_peers_that_do_not_fit_the_machine_are_left_out(monkeypatch):
    monkeypatch.setattr(turns.sys, "platform", "win32")
    with pytest.raises(ChildError, match="runs on linux only"):
        turns.start("torch-tuned", "train-1x16", threads=1)
    monkeypatch.setattr(turns.platform, "machine", lambda: "arm64")
    with pytest.raises(ChildError, match="for x86_64 processors"):
        turns.start("tinynet-avx2", "train-1x16", threads=1)
    with pytest.raises(ChildError, match="it is for --backend cpu"):
        turns.start("keras", "train-1x16", threads=1, backend="cuda")


def test_that_tinynet_cannot_run_is_a_sentence_for_the_user(monkeypatch, capsys):
    """E.g. a batch that does not fit into memory: the program ends with one line, without a traceback."""

    def start(*arguments):
        raise ChildError("MemoryError: conv2d: no memory for its result")

    monkeypatch.setattr(unet, "start", start)
    with pytest.raises(SystemExit) as ended:
        run(lambda: main(["unet", *TINY]))
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: MemoryError: conv2d: no memory for its result"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("unet --size 20", "--size is 20"),
        ("unet --turns 0", "--turns is 0"),
        ("unet --batch 0", "--batch is 0"),
        ("unet --against torch,tensorfow", "no tensorfow; the peers are tinynet, "),
        ("against nowhere", "nowhere is no checkout of tinynet: it needs the file tinynet/__init__.py"),
        (f"against {ROOT} --cases train-1x20", "--size is 20"),
        (f"against {ROOT} --cases resnet", "there is no case resnet; the cases are lenet, "),
        ("nets lenet resnet", "there is no net resnet; the nets are lenet, alexnet, autoencoder, lstm"),
        ("ops conv4d", "there is no op conv4d; the ops are "),
        ("ops --size 8", "--size is 8"),
        ("ops --threads 0", "--threads is 0"),
        ("profile --size 20", "--size is 20"),
        ("profile --steps 0", "--steps is 0"),
        ("profile --batch 0", "--batch is 0"),
        ("profile --threads 0", "--threads is 0"),
    ],
)
def test_senseless_command_lines(line, message):
    with pytest.raises(UsageError, match=message):
        main(line.split())


def test_commands_are_listed(capsys):
    tinynet_main([])
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)
    with pytest.raises(UsageError, match=r"no command 'bnech'; the commands are: .*bench"):
        tinynet_main(["bnech"])
    tinynet_main(["--version"])
    assert capsys.readouterr().out == f"tinynet {tn.__version__}\n"


def test_every_peer_has_its_module_and_tuned_ones_only_other_settings():
    folder = Path(unet.__file__).with_name("peers")
    assert all((folder / f"{peer.module}.py").is_file() for peer in PEERS.values())
    assert PEERS["torch-tuned"].module == PEERS["torch"].module


# ---------------------------------------------------------------------------------------- processes
def test_an_exception_in_a_child_is_a_sentence():
    with pytest.raises(ChildError, match=r"ValueError: there is no case train-many"):
        turns.start("textbook", "train-many", threads=1)


def test_a_child_that_dies_leaves_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "tests_say_goodbye.py").write_text(
        "import os, sys\nprint('goodbye', file=sys.stderr, flush=True)\nos._exit(3)"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    with pytest.raises(ChildError, match=r"ended with 3: goodbye"):
        Child("tests_say_goodbye", threads=1)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_child_that_is_killed_is_noticed():
    with contextlib.closing(turns.start("textbook", "infer-1x16", threads=1)) as child:
        os.kill(child._process.pid, signal.SIGKILL)
        with pytest.raises(ChildError, match="ended with -9"):
            child.ask(1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_ctrl_c_ends_all_processes():
    command = [sys.executable, "-m", "tinynet", "bench", "unet", *TINY, "--turns", "1000", "--against", "textbook"]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for line in parent.stderr:
        if line.startswith("round"):
            break
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.send_signal(signal.SIGINT)
    _, messages = parent.communicate(timeout=60)
    assert parent.returncode == 130 and messages.splitlines()[-1] == "interrupted"
    assert len(children) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in children)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/stat")
def test_the_work_of_others_is_seen():
    """The machine was busy at least as long as a process computed, and at most on all cores."""
    before, start = machine.busy_seconds(), time.perf_counter()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    busy, seconds = machine.busy_seconds() - before, time.perf_counter() - start
    assert 0.4 <= busy <= seconds * (os.cpu_count() or 1) + 0.1


def test_a_tick_more_or_less_is_no_other_process(monkeypatch):
    """A request of 20 ms, in which its child computed for 10 ms, on two cores with ticks of 10 ms."""
    monkeypatch.setattr(machine, "busy_resolution", lambda: 0.02)
    with contextlib.closing(turns.start("textbook", "infer-1x16", threads=1)) as child:
        monkeypatch.setattr(child, "_answer", lambda: {"cpu_seconds": 0.01})
        for busy, expected in ((0.03, 0.0), (0.07, 2.0), (float("nan"), float("nan"))):
            clocks = {"perf_counter": iter([5.0, 5.02]), "busy_seconds": iter([0.0, busy])}
            monkeypatch.setattr(processes.time, "perf_counter", lambda clock=clocks["perf_counter"]: next(clock))
            monkeypatch.setattr(machine, "busy_seconds", lambda clock=clocks["busy_seconds"]: next(clock))
            assert child.ask(1)["others_busy"] == pytest.approx(expected, nan_ok=True)


def test_the_resolution_is_a_tick_for_each_core(monkeypatch):
    monkeypatch.setattr(machine, "TICKS_PER_SECOND", 100)
    monkeypatch.setattr(machine, "cores", lambda: [0, 1, 5])
    assert machine.busy_resolution() == pytest.approx(0.03)


def test_timed_calls_often_enough(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(processes.time, "perf_counter", lambda: next(clock) / 1000)  # each call takes a millisecond
    assert processes.timed(lambda: None) == pytest.approx([1.0] * processes.MAX_CALLS)
    monkeypatch.setattr(processes.time, "perf_counter", lambda: 10.0 * next(clock))
    assert len(processes.timed(lambda: None)) == 1  # one call takes ten seconds
    monkeypatch.setattr(processes.time, "perf_counter", lambda: 0.25 * next(clock))
    assert len(processes.timed(lambda: None)) == processes.MIN_CALLS


# ---------------------------------------------------------------------------------------- bench profile
def test_each_moment_is_booked_on_the_innermost_call(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(clock))
    found = profile.Profile()
    with found._clocked("outer"), found._clocked("middle"):  # times 0 and 1
        with found._clocked("inner", "3x4"):  # 2 .. 3
            pass
        with found._clocked("inner", "5x6"):  # 4 .. 5
            pass
    rows = {row.name: (row.calls, row.seconds) for row in found.rows()}
    assert rows == {"outer": (1, 2), "middle": (1, 3), "inner": (2, 2)}
    assert {(row.name, row.shapes) for row in found.rows(by_shape=True)} >= {("inner", "3x4"), ("inner", "5x6")}


def test_a_step_is_profiled_and_nothing_stays_behind(capsys):
    def replaced():
        return (
            tn.Function.apply.__func__,
            tn.Function._gradients,
            optim.Optimizer.step,
            registry.implementation_kernel,
        )

    before = replaced()
    found = main(["profile", "--batch", "1", "--size", "16", "--steps", "1"])
    assert replaced() == before
    rows = {row.name: row for row in found.rows()}
    assert rows["max_pool2d.forward"].calls == 4 and rows["optimizer"].calls == 1
    assert any("1x16x16x16" in row.shapes for row in found.rows(by_shape=True))
    by_name, by_shape = capsys.readouterr().out.split(
        "the 12 most expensive by shape:\n"
    )  # which they are, is a matter of time
    assert "conv2d.backward_weight" in by_name and len(by_shape.splitlines()) == 12


def test_profile_runs_in_the_threads_asked_for():
    before, most = numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS
    with profile.numba_threads(1) as threads:
        assert threads == numba.get_num_threads() == 1
    with profile.numba_threads(None) as threads:
        assert threads == before
    with pytest.raises(ValueError, match=f"--threads is {most + 1}; Numba has {most}"), profile.numba_threads(most + 1):
        pass
    assert numba.get_num_threads() == before


# ---------------------------------------------------------------------------------------- bench nets
def test_nets_prints_a_table_and_writes_json(tmp_path, capsys, without_frameworks):
    found = main(["nets", "autoencoder", "--turns", "1", "--json", str(tmp_path / "b.json")])
    printed = capsys.readouterr().out
    assert "autoencoder" in printed and "128 x 784" in printed and "439,470" in printed
    assert 'left out: torch: torch is not installed (pip install -e ".[bench]")' in printed
    assert json.loads((tmp_path / "b.json").read_text())["nets"] == found["nets"]
    assert found["nets"]["autoencoder"]["tinynet"]["median_ms"] > 0


@pytest.mark.parametrize("torch_ms, quiet, ratio", [(4.0, 7, "0.50 "), (1.0, 6, "2.00*")])
def test_a_row_of_nets_says_who_is_faster(torch_ms, quiet, ratio):
    results = {"tinynet": result("ours", 7, 0, ms=2.0), "torch": result("theirs", quiet, 7 - quiet, ms=torch_ms)}
    row = nets.format_row("lenet", results, turns=7)
    assert f" 2.00 {torch_ms:8.2f} " in row and f" {ratio}" in row


@pytest.mark.bench
@pytest.mark.parametrize("net", ["lenet", "alexnet", "autoencoder", "lstm"])
def test_nets_learn_alike_in_torch(net):
    pytest.importorskip("torch")
    losses = {}
    for name in ("tinynet", "torch"):
        child = turns.start(name, net, threads=1)
        losses[name] = [child.ask(1)["value"] for _ in range(1 if net == "alexnet" else 3)]
        child.close()
    tolerance = 0.1 if net == "alexnet" else 1e-4  # AlexNet's dropout draws other masks
    np.testing.assert_allclose(losses["torch"], losses["tinynet"], rtol=tolerance)


# ---------------------------------------------------------------------------------------- bench against
@pytest.mark.slow
def test_against_does_the_same_steps_twice(capsys, monkeypatch):
    monkeypatch.setattr(against, "SECONDS_PER_TURN", 0)
    table = main(["against", str(ROOT), "--cases", "train-1x16", "--turns", "2", "--threads", "1"])
    printed = capsys.readouterr().out
    assert f"new: {ROOT}; old: {ROOT}; 1 threads" in printed and "train-1x16" in printed
    for row in table.values():
        assert row["new_value"] == row["old_value"] and min(row.values()) > 0


def test_against_runs_the_tinynet_of_the_checkout(tmp_path):
    (tmp_path / "tinynet").mkdir()
    (tmp_path / "tinynet" / "__init__.py").write_text("raise ImportError('the other one')")
    with pytest.raises(ChildError, match="ImportError: the other one"):
        against.start("lenet", tmp_path, threads=1)


# ---------------------------------------------------------------------------------------- bench ops
@pytest.fixture(scope="module")
def tiny_calls():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "LARGE", 2**12)
        for net, (_, *shape) in examples.BATCHES.items():
            patch.setitem(examples.BATCHES, net, (1, *shape))
        return calls.all_calls(1, 16, all_ops())


def test_every_kernel_of_every_op_is_timed(tiny_calls):
    assert {(c.op, c.kernel) for c in tiny_calls} == {(op, name) for op in all_ops() for name in kernel_names(op)}


def test_calls_are_those_of_the_net_and_can_be_made(tiny_calls):
    first = [c for c in tiny_calls if c.per_step and c.op.startswith("conv") and "1x16x16x3, 3x3x3x16" in c.shapes]
    assert len(first) == 1 and first[0].per_step == 1
    make(tiny_calls, lambda versions: versions[:1])


@pytest.mark.slow
def test_calls_can_be_made_of_every_version(tiny_calls):
    make(tiny_calls, lambda versions: versions[1:])


def make(found, chosen):
    """Make each call with those of its versions that `chosen` picks from the list."""
    rng = np.random.default_rng(0)
    for c in found:
        for version in chosen(list(calls.implementations_of(c))):
            with np.errstate(over="ignore"):  # of an LSTM with weights between 0 and 1
                calls.function_of(c, version)(*c.arguments(rng), **c.parameters)


def test_plain_layers_are_timed_although_the_step_runs_fused_ones(tiny_calls):
    shapes = {c.shapes for c in tiny_calls if (c.op, c.kernel) == ("conv2d", "forward")}
    assert "1x16x16x16, 3x3x16x16, 16" in shapes


def test_each_version_that_can_run_a_call_is_timed_once(tiny_calls):
    """A version stands in for those that do not cover the call, and the definition comes last."""
    found = {(c.op, c.kernel, c.shapes): list(calls.implementations_of(c)) for c in tiny_calls}
    assert found["conv2d", "forward", "1x16x16x3, 3x3x3x16, 16"] == ["blocked", "naive", "reference"]
    plain = found["conv2d", "backward_weight", "1x16x16x16, 1x16x16x16"]
    assert plain == ["winograd4", "naive", "winograd2", "blocked", "reference"]
    depthwise = next(names for (op, _, shapes), names in found.items() if op == "conv2d" and "3x3x1x32" in shapes)
    assert depthwise == ["depthwise", "naive", "blocked", "reference"]
    assert found["conv2d", "backward_bias", "1x16x16x16"] == ["default", "reference"]
    assert [names for (op, *_), names in found.items() if op == "gradient_norm"] == [["reference"]] * 2
    assert all(names[-1] == "reference" for names in found.values())


def named(versions, kernel):
    """For each version a stand-in that returns the version's name."""
    return {name: {kernel: lambda *arrays, _name=name, **parameters: _name} for name in versions}


def test_the_version_that_a_row_names_is_the_one_that_runs(tiny_calls, monkeypatch):
    rng = np.random.default_rng(0)
    convolutions = [c for c in tiny_calls if c.op in ("conv2d", "conv3d") and c.kernel != "backward_bias"]
    for c in convolutions:
        module = import_module(f"tinynet.ops.{c.op}.cpu")
        stand_ins = named([rule.version for rule in module.TABLE], c.kernel)
        if c.op == "conv2d":
            kernels = {name: SimpleNamespace(**functions) for name, functions in stand_ins.items()}
            monkeypatch.setattr(module, "VERSIONS", kernels)
        else:
            monkeypatch.setattr(module, "TABLE", [r._replace(kernels=stand_ins[r.version]) for r in module.TABLE])
        for version in set(calls.implementations_of(c)) - {"reference"}:
            assert calls.function_of(c, version)(*c.arguments(rng), **c.parameters) == version, (c.op, c.kernel)
        monkeypatch.undo()
    assert {c.op for c in convolutions} == {"conv2d", "conv3d"}


def test_arrays_in_lists_are_repeated_too():
    """The largest array gets `least` elements; arrays with as many images follow, all others stay."""
    parts, weights = (np.ones((2, 5)), np.ones((2, 1))), np.ones((3, 1))
    repeated, same = calls.more_images((parts, weights), 60)
    assert [a.shape for a in repeated] == [(12, 5), (12, 1)] and same is weights


@pytest.mark.parametrize("op", ["conv2d", "conv_transpose2d"])
def test_operations_of_a_convolution(op):
    """All three kernels do the same work, in any geometry; a transposed convolution does that of its mirror image.

    Counted by hand: each element of the result sums over the taps and over the channels of its group.
    """
    for case in import_module(f"tinynet.ops.{op}.cases").cases(np.random.default_rng(0), large=False):
        if "backward_input" not in case.calls:
            continue
        (x, w, _), parameters = case.calls["forward"]
        gy = case.calls["backward_input"][0][0]
        image, pixels = (x, gy) if op == "conv2d" else (gy, x)
        channels = image.shape[3] // parameters["geometry"].groups
        expected = 2 * math.prod(pixels.shape[:3]) * math.prod(w.shape[:2]) * channels * w.shape[3]
        for name in ("forward", "backward_input", "backward_weight"):
            arrays, parameters = case.calls[name]
            result = implementation_kernel(op, name, "reference")(*arrays, **parameters)
            assert work.flops(op, name, arrays, parameters, result) == expected, f"{name}, {case.label}"


def test_operations_of_matrix_products():
    x, y, z = np.ones((2, 5, 3)), np.ones((5, 4)), np.ones((2, 3, 4))
    assert work.flops("matmul", "forward", (x, y), {"transpose_x": True}, z) == 2 * 2 * 3 * 4 * 5
    gates, weight = np.ones((7, 3, 8)), np.ones((2, 8))  # seven steps, three samples, two units
    assert work.flops("lstm", "forward", (gates, weight), {}, (None, gates)) == 2 * 7 * 3 * 8 * 2
    assert work.flops("lstm", "backward", (gates, gates, gates, weight), {}, (gates, weight)) == 4 * 7 * 3 * 8 * 2


def test_operations_of_other_kernels_are_the_elements_of_their_largest_array():
    x, gradients = np.ones((2, 8, 8, 3)), [np.ones((3, 4)), np.ones(5)]
    assert work.flops("max_pool2d", "forward", (x,), {}, (np.ones((2, 4, 4, 3)), None)) == x.size
    assert work.flops("resize", "forward", (x,), {}, np.ones((2, 16, 16, 3))) == 4 * x.size
    assert work.flops("adam", "step", (gradients, gradients, 1), {}, None) == 17, "in place: a list is one array"
    assert work.flops("gradient_norm", "sum_of_squares", (gradients,), {}, np.float64(1)) == 17


def test_what_the_unet_does_not_call_is_seen_in_the_lectures_nets(tiny_calls):
    (lstm,) = [call for call in tiny_calls if (call.op, call.kernel) == ("lstm", "forward")]
    assert lstm.shapes.startswith("600x1x256, 64x256"), "the electrocardiogram's, one in the batch"
    products = {call.shapes: call.per_step for call in tiny_calls if call.op == "matmul"}
    assert set(products.values()) == {0} and "64x64, 64x64" in products
    assert "1x256, 256x784, 784" in products, "the autoencoder's last layer"


def test_ops_prints_rows_and_writes_json(tmp_path, capsys, monkeypatch, without_frameworks):
    monkeypatch.setattr(ops, "measured_peak", lambda threads: (100.0, 10.0))
    main(["ops", "elu", "concat", "--batch", "1", "--size", "16", "--threads", "1", "--json", str(tmp_path / "o.json")])
    printed = capsys.readouterr().out
    for word in ("elu.forward", "concat.forward", "GFLOP/s", "100 GFLOP/s (sgemm), 10 GB/s (triad)"):
        assert word in printed, word
    assert "left out: torch: torch is not installed" in printed
    report = json.loads((tmp_path / "o.json").read_text())
    assert report["command"] == "ops" and report["machine"]["triad_gbytes"] == 10
    rows = {(row["op"], row["kernel"], row["shapes"]): row for row in report["rows"]}
    row = rows["elu", "forward", "1x16x16x16"]
    moved, elements = 2 * 4 * 16**3, 16**3  # bytes: each element is read once and written once
    assert row["gbytes"] == pytest.approx(moved / row["ms"] / 1e6)
    assert row["gflops"] == pytest.approx(elements / row["ms"] / 1e6)
    assert row["share"] == pytest.approx(moved / 10 / row["ms"] / 1e6), "memory is the limit"
    assert (row["flops"], row["bytes"], row["intensity"]) == (elements, moved, 1 / 8)
    assert row["torch_ms"] is None and row["ratio"] is None


def test_a_peak_of_a_busy_machine_is_not_divided_by(capsys, monkeypatch):
    monkeypatch.setattr(
        Child, "ask", lambda self, request: {"rate": 1.0, "ms": [1.0], "flops": 1, "bytes": 1, "others_busy": 1.0}
    )
    monkeypatch.setattr(Child, "_answer", lambda self: {"calls": [CALL]})
    monkeypatch.setattr(processes, "wait_until_idle", lambda children: None)
    assert peak.measured_peak(1) == (None, None)
    report = main(["ops", "elu", "--batch", "1", "--size", "16", "--threads", "1", "--against", "nothing"])
    assert [row["share"] for row in report["rows"]] == [None, None]
    printed = capsys.readouterr()
    assert "no share of its peak: other processes were busy" in printed.out and "%" not in printed.out
    assert "1 of 2 measured, about 0.0 minutes left" in printed.err


CALL = {"op": "elu", "kernel": "forward", "shapes": "3", "per_step": 1, "implementations": ["simd", "naive"]}


def test_what_takes_seconds_is_timed_once(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(processes.time, "perf_counter", lambda: 2.0 * next(clock))
    asked = []
    assert processes.timed(lambda: asked.append(1)) == [2000.0] and len(asked) == 1
    monkeypatch.undo()
    answers = iter([{"ms": [2000.0], "others_busy": 1.0}, {}])
    assert processes.quiet_answer(SimpleNamespace(ask=lambda request: next(answers)), None)["ms"] == [2000.0]


def test_rows_go_on_without_torch_where_it_fails(tmp_path, capsys, monkeypatch):
    """PyTorch fails in its second call: only the rows of the first have its time, and the report says why."""
    (tmp_path / "half_torch.py").write_text("""
def start():
    asked = []
    def respond(call):
        asked.append(call)
        if len(asked) > 1:
            raise MemoryError("too large")
        return {"ms": [2.0]}
    return {}, respond
""")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.setattr(ops, "measured_peak", lambda threads: (100.0, 10.0))
    monkeypatch.setattr(ops, "TORCH", "half_torch")
    monkeypatch.setattr(processes, "ATTEMPTS", 1)
    report = main(["ops", "elu", "--batch", "1", "--size", "16", "--threads", "1"])
    times = [row["torch_ms"] for row in report["rows"]]
    assert times[:2] == [2.0, 2.0] and len(times) > 2 and not any(times[2:]), "two versions of the first call"
    said = report["left_out"]["torch"]
    assert said.startswith("from elu.") and said.endswith(" on: MemoryError: too large")
    printed = capsys.readouterr()
    assert f"left out: torch: {said}" in printed.out
    assert "watching which kernels a step calls" in printed.err


@pytest.mark.bench
def test_torch_has_counterparts_that_run(tiny_calls):
    """Each kernel of the net that PyTorch has too runs there with the shapes of the net."""
    pytest.importorskip("torch")
    child = Child("tinynet.tools.bench.torch_calls", threads=1)
    for c in tiny_calls:
        child.ask(calls.described(c))
    forward = next(c for c in tiny_calls if (c.op, c.kernel) == ("conv2d", "forward"))
    assert child.ask(calls.described(forward))["ms"]
    child.close()


@pytest.mark.slow
def test_peak_is_measured():
    for rate in peak.measured_peak(1):
        assert rate is None or rate > 0  # None: other processes were busy


# ---------------------------------------------------------------------------------------- the examples
def test_an_example_is_imported_once_and_a_missing_one_is_named(monkeypatch):
    script = examples.load_example("segmentation/unet_nuclei.py")
    assert script is examples.load_example("segmentation/unet_nuclei.py")
    assert script.__name__ == "example_segmentation_unet_nuclei", "two topics may have a script of the same name"
    with pytest.raises(FileNotFoundError, match=r"examples/segmentation/none\.py is neither in"):
        examples.load_example("segmentation/none.py")


def test_another_implementation_is_used_for_the_whole_step():
    """`tinynet-direct` is the same peer with an option; every machine has the implementation named here."""
    plain = tinynet_peer.contestant("infer-1x16", 1).step()
    assert tinynet_peer.contestant("infer-1x16", 1, implementation="naive").step() == pytest.approx(plain, abs=1e-6)
    wrong = tinynet_peer.contestant("infer-1x16", 1, implementation="none")
    with pytest.raises(ValueError, match="no implementation 'none'"):
        wrong.step()
    with use_kernels("conv2d", "naive"):
        assert tinynet_peer.contestant("infer-1x16", 1).step() == pytest.approx(plain, abs=1e-6)


@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
@pytest.mark.parametrize("mode", ["infer", pytest.param("train", marks=pytest.mark.slow)])
def test_the_step_runs_on_a_gpu_by_its_clock(mode, fake_gpu):
    gpu = tinynet_peer.contestant(f"{mode}-1x16", 1, backend="cuda")
    value, milliseconds = gpu.timed(gpu.step)
    assert fake_gpu.launches and milliseconds > 0 and gpu.peak_mb() > 0 and "cupy" in gpu.versions
    emulated = tinynet_peer.contestant(f"{mode}-1x16", 1, backend="cuda-sim")
    assert emulated.step() == value


def test_torch_stands_for_all_its_ways_on_a_gpu():
    config = unet.UnetConfig(backend="cuda", against="torch")
    assert config.peers() == ["tinynet", "tinynet-tf32", "torch", "torch-tf32", "torch-compile"]
    assert unet.UnetConfig().peers() == ["tinynet", "torch", "keras"]
