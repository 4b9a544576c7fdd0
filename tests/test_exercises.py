"""The exercises: every check is tested with its solution, its stub, its known mistakes and other right versions."""

import json
import re
import time
import types
from pathlib import Path

import numpy as np
import pytest
from exercise_mutants import mutants, survives
from measure_exercises import UNNAMED, explanation, rewritten

from tinynet.backends.registry import use_backend
from tinynet.learn.exercises import check
from tinynet.learn.exercises.commands import main
from tinynet.learn.exercises.exercise import COURSE_FOLDER, SOLUTION_FILE, course, exercise, without_solutions
from tinynet.learn.exercises.guard import functions_of
from tinynet.learn.exercises.judge import judge
from tinynet.learn.exercises.progress import Progress, Record
from tinynet.learn.exercises.runner import check_file
from tinynet.learn.exercises.verdict import NOT_CHECKED, NOT_WRITTEN, RIGHT, WRONG
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.conv2d import reference

IDS = course(COURSE_FOLDER)
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))]


def exercise_or_skip(id):
    this = exercise(id, COURSE_FOLDER)
    if this.missing():
        pytest.skip(this.missing())
    return this


def judged(this, text, seed=0):
    return judge(this, functions_of(text, SOLUTION_FILE, this.imports), SOLUTION_FILE, seed)


# ---------------------------------------------------------------------------------------- the checks are checked
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("id", IDS)
def test_solutions_pass(id, seed):
    this = exercise_or_skip(id)
    for name, text in [("solution", this.solution), *((v.name, this.variant(v)) for v in this.right)]:
        verdict = judged(this, text, seed)
        assert verdict.status == RIGHT, f"{name}\n{verdict}"


@pytest.mark.parametrize("id", IDS)
def test_the_stub_is_not_written_yet(id):
    this = exercise_or_skip(id)
    verdict = judged(this, this.stub)
    assert verdict.status == NOT_WRITTEN and not verdict.findings
    assert all(name in verdict.message for name in this.functions)
    code = this.solution.removeprefix(this.head)
    written = [line.strip() for line in code.splitlines() if len(line.strip()) > 20]
    inside = [line for line in written if line not in this.stub]
    assert inside, "the solution is no longer than the stub"
    assert without_solutions(this.text).count("to be written") >= 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("id", IDS)
def test_every_mistake_is_caught_and_named_by_its_own_sentence(id, seed):
    this = exercise_or_skip(id)
    for wrong in this.wrong:
        verdict = judged(this, this.variant(wrong), seed)
        assert verdict.status == WRONG, f"{wrong.name} was not caught"
        assert set(verdict.mistakes) == {wrong.name}, f"{wrong.name} was taken for {verdict.mistakes}\n{verdict}"
        assert all(finding.mistake for finding in verdict.findings), (
            f"{wrong.name}: not all of it was explained\n{verdict}"
        )
        assert wrong.sentence in " ".join(str(verdict).split())


@pytest.mark.parametrize("tier", ["reference", "cpu", pytest.param("cuda-sim", marks=pytest.mark.slow)])
@pytest.mark.parametrize("id", [id for id in IDS if hasattr(exercise(id, COURSE_FOLDER).module, "library")])
def test_the_library_gives_the_same(id, tier):
    this = exercise_or_skip(id)
    try:
        with use_backend(tier):
            verdict = judge(this, this.module.library())
    except RuntimeError as missing:
        pytest.skip(str(missing))
    assert verdict.status == RIGHT, str(verdict)


def test_only_the_two_on_compiled_code_have_no_library_to_be_compared_with():
    assert [id for id in IDS if not hasattr(exercise(id, COURSE_FOLDER).module, "library")] == ["jit-01", "cuda-01"]


@pytest.mark.parametrize("tier", ["reference", pytest.param("cpu", marks=pytest.mark.slow)])
def test_the_numba_port_compiled_for_several_threads_gives_what_the_library_gives(tier):
    this = exercise("jit-01", COURSE_FOLDER)
    own = this.module.kernels(functions_of(this.solution, SOLUTION_FILE, this.imports))
    rng = np.random.default_rng(0)
    x, w, gy = rng.normal(size=(3, 5, 6, 2)), rng.normal(size=(3, 2, 2, 4)), rng.normal(size=(3, 5, 7, 4))
    same, size = Geometry(padding=(1, 1)), (3, 2)
    with use_backend(tier):
        np.testing.assert_allclose(own["forward"](x, w, None, same), reference.forward(x, w, None, same))
        expected = reference.backward_weight(x, gy, size, same)
    np.testing.assert_allclose(own["backward_weight"](x, gy, size, same), expected, atol=1e-12)


def test_the_cuda_kernels_give_what_the_library_gives():
    from tinynet.learn.exercises.emulated import run_emulated

    this = exercise_or_skip("cuda-01")
    functions = functions_of(this.solution, SOLUTION_FILE)
    rng = np.random.default_rng(0)
    x, w, gy = rng.normal(size=(3, 5, 6, 2)), rng.normal(size=(3, 2, 2, 4)), rng.normal(size=(3, 5, 7, 4))
    y, gw = np.empty((3, 5, 7, 4)), np.empty((3, 2, 2, 4))
    sizes = dict(enumerate((3, 5, 6, 2, 3, 2, 4, 1, 1)))
    y, failed = run_emulated(functions, "forward", y.size, "y", {"x": x, "w": w, "y": y, **sizes})
    gw, failed_too = run_emulated(functions, "backward_weight", gw.size, "gw", {"x": x, "gy": gy, "gw": gw, **sizes})
    assert failed is failed_too is None
    same = Geometry(padding=(1, 1))
    np.testing.assert_allclose(y, reference.forward.definition(x, w, None, same))
    np.testing.assert_allclose(gw, reference.backward_weight.definition(x, gy, (3, 2), same), atol=1e-12)


@pytest.mark.parametrize("id", IDS)
def test_an_exercise_is_complete(id):
    this = exercise(id, COURSE_FOLDER)
    assert len(this.hints) == 3 and this.teaches and this.title and this.functions
    assert len(this.wrong) >= 3 and this.right
    assert len({w.name for w in this.wrong}) == len(this.wrong) == len({w.sentence for w in this.wrong})
    assert this.stub.startswith(f'"""{id}: {this.title}')
    assert "tinynet" not in "".join(re.findall(r"^(?:from|import) .*", this.stub, re.MULTILINE))


def test_a_substitution_that_no_longer_fits_is_an_error():
    this = exercise("ad-06", COURSE_FOLDER)
    wrong = this.wrong[0]
    with pytest.raises(ValueError, match="stands 0 times in the solution"):
        wrong.applied_to("nothing of it")


def test_a_solution_that_fails_on_a_probe_is_an_error():
    this = exercise("ad-06", COURSE_FOLDER)
    probe = this.probes(0)[0]
    this.module.probes, kept = (lambda rng: [type(probe)("x", "nowhere", probe.run, probe.axes)]), this.module.probes
    try:
        with pytest.raises(RuntimeError, match="ad-06: the solution fails"):
            judged(this, this.solution, seed=99)
    finally:
        this.module.probes = kept


@pytest.mark.slow
@pytest.mark.parametrize("id", IDS)
def test_a_mistake_is_named_in_other_ways_to_write_the_rest(id):
    this = exercise_or_skip(id)
    for text, way, name in rewritten(this):
        is_named = name in judged(this, text).mistakes
        assert is_named != ((id, way, name) in UNNAMED), f"{way}, {name}\n{judged(this, text)}"


@pytest.mark.slow
@pytest.mark.parametrize("id", IDS)
def test_every_mechanical_mutant_is_caught_or_explained(id):
    this = exercise_or_skip(id)
    survivors = [m for m in mutants(this) if survives(this, m)]
    assert [m.change for m in survivors if explanation(id, m.before, m.after) is None] == []


# --------------------------------------------------------------------------------- any code that a learner writes
def with_body(body):
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"import numpy as np\n\n\ndef backward_matmul(gy, x, w):\n{lines}\n"


def judgement_of(body):
    """As `verdict_of`, without a process of the learner's own, which takes a second to start."""
    return judged(exercise("ad-06", COURSE_FOLDER), with_body(body))


def verdict_of(tmp_path, body, id="ad-06", seconds=None):
    """The verdict on a file for ad-06 with this body of backward_matmul."""
    file = tmp_path / f"{id}.py"
    file.write_text(with_body(body))
    before = file.read_bytes()
    verdict = check_file(id, file, seconds=seconds)
    assert file.read_bytes() == before
    return verdict


GOOD = "gw = x.reshape(-1, x.shape[-1]).T @ gy.reshape(-1, gy.shape[-1])\nreturn gy @ w.T, gw"


@pytest.mark.parametrize(
    "body, status, message",
    [
        (GOOD, RIGHT, "5 probes"),
        (f"print('hello', x.shape)\n{GOOD}", RIGHT, "5 probes"),
        ("raise NotImplementedError", NOT_WRITTEN, "to be written: backward_matmul"),
        ("exit()", NOT_CHECKED, r"line 5: `exit\(\)` ends the whole program"),
        ("raise SystemExit(0)", NOT_CHECKED, r"line 5: `raise SystemExit\(0\)` ends the whole program"),
        ("raise KeyboardInterrupt", NOT_CHECKED, "line 5"),
        ("return np.ones(10**12), w", NOT_CHECKED, r"line 5: `return np.ones\(10\*\*12\), w`: .*GiB of memory"),
        ("return gy @ w.T, (", NOT_CHECKED, "line 5: .*Python cannot read this"),
        ("import tinynet as tn\nreturn tn.matmul", NOT_CHECKED, "line 5: `import tinynet as tn`: tinynet is not to be"),
        ("from scipy import signal\nreturn gy", NOT_CHECKED, "line 5: .*it may hold the answer"),
        ("import os\nos._exit(0)", NOT_CHECKED, "line 5: `import os`"),
        ("return __import__('tinynet').matmul", NOT_CHECKED, "line 5: tinynet is not to be used here"),
        ("exec('from tinynet import matmul')\nreturn gy", NOT_CHECKED, "tinynet is not to be used here"),
        ("while True:\n    print('x' * 1000)", NOT_CHECKED, "printed more than 200 kB"),
        ("open(__file__, 'w').write('gone')\n" + GOOD, RIGHT, "wrote into its own file, which was put back"),
    ],
)
def test_every_way_to_end_the_check_gives_a_sentence(tmp_path, body, status, message):
    verdict = verdict_of(tmp_path, body)
    assert verdict.status == status, str(verdict)
    assert re.search(message, verdict.message, re.DOTALL), verdict.message
    assert "Traceback" not in str(verdict)


def test_an_endless_loop_is_ended_and_its_line_named(tmp_path):
    verdict = verdict_of(tmp_path, "i = 0\nwhile True:\n    i += 1", seconds=1.0)
    assert verdict.status == NOT_CHECKED
    assert re.search("after 1 s and was stopped at line [67]: .*an endless loop", verdict.message), verdict.message


@pytest.mark.parametrize(
    "body, message",
    [
        ("return 1 / 0, w", "line 5: ZeroDivisionError: division by zero"),
        ("return gy @ w.T", "must return 2 things, gx, gw"),
        ("pass", "returned None: is there a `return`"),
        ("return 'a', 'b'", "gx must be an array of numbers; it is 'a'"),
        ("w *= 2\n" + GOOD, "changed its argument 3 in place"),
        ("gw = np.random.normal(size=w.shape)\nreturn gy @ w.T, gw", "is it random"),
        ("gy, w, x = (a.astype('float32') + 1e-6 for a in (gy, w, x))\n" + GOOD, "computed in float32"),
        ("gx, gw = np.zeros(x.shape), np.zeros(w.shape)\nreturn gx, gw[None]", "gw"),
    ],
)
def test_wrong_results_get_a_sentence(body, message):
    verdict = judgement_of(body)
    assert verdict.status == WRONG
    assert message in str(verdict) or re.search(message, str(verdict)), str(verdict)


def test_a_file_with_the_arguments_of_an_older_version_is_a_sentence(tmp_path):
    file = tmp_path / "conv-05.py"
    file.write_text("def backward_input(gy, w, *, input_size, stride, padding):\n    return gy\n")
    verdict = check_file("conv-05", file)
    assert verdict.status == NOT_CHECKED
    assert verdict.message.startswith(
        "`def backward_input(gy, w, *, input_size, stride, padding)` must be "
        "`def backward_input(gy, w, input_size, geometry)`: the exercise calls it with these arguments."
    )


def test_what_is_printed_is_shown(tmp_path):
    assert "  | shape (2, 3)" in str(verdict_of(tmp_path, "print('shape', x.shape)\n" + GOOD))


def test_two_mistakes_are_both_named():
    verdict = judgement_of("gw = (x.reshape(-1, x.shape[-1]).T @ gy.reshape(-1, gy.shape[-1])).T\nreturn gy @ w, gw")
    # Most probes end with an error because of the first mistake; the others show the second.
    assert set(verdict.mistakes) == {"w not transposed", "gw transposed"}
    verdict = judgement_of(GOOD.replace("gy @ w.T, gw", "np.ones(gy.shape) @ w.T, gw.T"))
    assert set(verdict.mistakes) == {"gy ignored in gx", "gw transposed"}


def test_an_unknown_mistake_is_explained_by_a_pattern():
    verdict = judgement_of(GOOD.replace("gy @ w.T, gw", "gy @ w.T, 3 * gw"))
    (finding,) = verdict.findings
    assert finding.mistake is None and finding.output == "gw" and "3" in finding.sentence
    assert "gx" not in {f.output for f in verdict.findings}


def test_exchanged_results_are_named():
    verdict = judgement_of(GOOD.replace("return gy @ w.T, gw", "return gw, gy @ w.T"))
    assert (
        set(verdict.mistakes) == {"results exchanged"} and "return gx, gw, not gw, gx" in verdict.findings[0].sentence
    )


def test_a_pattern_that_fits_one_probe_only_is_not_claimed():
    """The wrong factor is another one on each probe: 2, 3, 1, ..."""
    verdict = judgement_of(GOOD.replace("gy @ w.T, gw", "gy @ w.T, gw * w[0, 0]"))
    assert verdict.status == WRONG and verdict.findings[0].sentence is None
    verdict = judgement_of(GOOD.replace("gy @ w.T, gw", "gy @ w.T, gw / gy.shape[-1]"))
    assert verdict.status == WRONG and "averaged where it must be summed" in verdict.findings[0].sentence


def test_the_arguments_of_a_wrong_probe_are_shown(run):
    solve("ad-06", exercise("ad-06", COURSE_FOLDER).wrong[1])
    text = run("check ad-06")[1]
    assert re.search(
        r"On the probe 'a batch of 5':\n +gy = array of shape \(5, 2, 4\)\n.* w = \[\[", text, re.DOTALL
    ), text
    text = run("check ad-06 --show")[1]
    assert text.count("gy = [[[") == 2 and "of shape" not in text.partition("backward_matmul, 'a batch of 5'")[2]
    solve("ad-05", exercise("ad-05", COURSE_FOLDER).wrong[2])
    text = run("check ad-05")[1]
    assert "last = 'y'" in text and "'x': 2 times, not 1" in text
    solve("conv-01", exercise("conv-01", COURSE_FOLDER).wrong[0])
    assert re.search(r"output_size\(5, 1, stride=1, padding=0, dilation=1\): 4, not 5", run("check conv-01")[1])


@pytest.mark.parametrize(
    "result, message",
    [
        (
            "list(np.argsort(-scores))",
            r"box 0 \(score 0.6\) is dropped: its IoU with box 1 .*, which is kept, is 0.6 > 0.5",
        ),
        (
            "[int(scores.argmax())] if len(scores) else []",
            r"kept \[3\]; right: \[3, 2, 0\]\n +box 2 .* stays: no box kept",
        ),
        ("[int(scores.argmax())] * len(scores) if len(scores) else []", "box 1 is listed 2 times"),
        ("np.arange(len(scores)) + 1", r"nms returned the indices \[1\]; there are boxes 0 to 0"),
        ("np.zeros(9, int)", "must return at most 1 indices"),
        ("scores > 0", "The mistake: You return True or False for each box."),
        ("list(map(float, range(len(scores))))", "must return indices: whole numbers, .* it returned float64"),
        ("set(range(len(scores)))", "kept must be an array of numbers"),
        ("None", "returned None: is there a `return`"),
    ],
)
def test_lists_of_indices_are_reported_in_words(result, message):
    text = f"import numpy as np\n\n\ndef nms(boxes, scores, threshold):\n    return {result}\n"
    verdict = judged(exercise("det-01", COURSE_FOLDER), text)
    assert verdict.status == WRONG and re.search(message, str(verdict), re.DOTALL), str(verdict)


# ---------------------------------------------------------------------------------------- races and bounds
def test_a_race_names_the_element_and_the_turns():
    this = exercise("jit-01", COURSE_FOLDER)
    race = next(w for w in this.wrong if w.name == "weight: race over images")
    report = str(judged(this, this.variant(race)))
    assert re.search(r"turns \d and \d of the parallel loop both touch gw\[0, 0, 0, 0\]", report)


def test_helpers_slices_and_sums_of_a_kernel_are_followed():
    from tinynet.learn.exercises.parallel import run_watched

    text = """
import numba
from numba import njit

@njit
def put(a, i, v):
    a[i] = v

@njit(parallel=True)
def right(x, y):
    for i in numba.prange(x.shape[0]):
        row = y[i]
        row[...] = x[i, :] * 2
        put(y[i], 0, 5.0)

@njit(parallel=True)
def race(x, y):
    for i in numba.prange(x.shape[0]):
        put(y[0], 0, x[i, 0])
        y[..., -1] = 1
"""
    functions = functions_of(text, "x", ["numba"])
    x = np.arange(6.0).reshape(2, 3)
    log, after = run_watched(functions["right"], {"x": x, "y": np.zeros((2, 3))})
    assert log.race is None and log.outside is None and log.loops == 1
    assert "y" in after
    log, _ = run_watched(functions["race"], {"x": x, "y": np.zeros((2, 3))})
    assert "touch y[0, 0]" in log.race and "element -1 is asked for" in log.outside


# ---------------------------------------------------------------------------------------- commands
@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command line in an empty folder: (exit code, what was printed)."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        try:
            main(line.split())
            code = 0
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def solve(id, variant=None):
    this = exercise(id, COURSE_FOLDER)
    Path("my_exercises").mkdir(exist_ok=True)
    Path("my_exercises", f"{id}.py").write_text(this.variant(variant) if variant else this.solution)


def test_the_way_through_an_exercise(run):
    code, text = run("")
    assert code == 0 and "0 of 29 exercises are right" in text and "start ad-01" in text
    code, text = run("check ad-02")
    assert code == 2 and "not started" in text
    code, text = run("start ad-02")
    assert code == 0 and "Backward of addition" in text and "check ad-02" in text
    code, text = run("start ad-02")
    assert code == 3 and "exists already" in text and "reset" in text
    code, text = run("check ad-02")
    assert code == 2 and "to be written: backward_add, backward_mul" in text
    for n in (1, 2, 3, 3):
        code, text = run("hint ad-02")
        assert code == 0 and text.count("hint ") == n
    solve("ad-02", exercise("ad-02", COURSE_FOLDER).wrong[0])
    code, text = run("check ad-02")
    assert code == 1 and "The mistake: You multiply by the argument itself." in text
    solve("ad-02")
    code, text = run("check ad-02")
    assert code == 0 and "right" in text
    code, text = run("solution ad-02")
    assert code == 0 and "gy * x2, gy * x1" in text and "seen" not in text
    code, text = run("list")
    assert "+ ad-02" in text and "3 hints" in text and "  ad-03" in text
    code, text = run("reset ad-02")
    assert code == 0 and "gy * x2" in Path("my_exercises/ad-02.py.old").read_text()
    assert "gy * x2" not in Path("my_exercises/ad-02.py").read_text()
    code, text = run("")
    assert "1 of 29" in text and "next: ad-01" in text


def test_a_solution_that_is_seen_before_is_marked(run):
    assert "marked as seen" in run("solution ad-01")[1]
    assert "solution seen" in run("list")[1]


def test_a_file_that_is_saved_is_checked_again(run, monkeypatch, capsys):
    solve("ad-02", exercise("ad-02", COURSE_FOLDER).wrong[0])
    looks = iter([None, lambda: solve("ad-02"), None])

    def instead_of_sleep(seconds):
        change = next(looks, KeyboardInterrupt)
        if change is KeyboardInterrupt:
            raise KeyboardInterrupt
        if change:
            change()

    clock = types.SimpleNamespace(sleep=instead_of_sleep, strftime=time.strftime)
    monkeypatch.setattr("tinynet.learn.exercises.commands.time", clock)
    with pytest.raises(KeyboardInterrupt):
        run("watch")
    printed = capsys.readouterr().out
    assert printed.count("was saved") == 1 and "ad-02: right." in printed


@pytest.mark.parametrize("line", ["start ad-99", "check ad-99", "hint ad-99", "solution nothing", "fly", "use ad-01"])
def test_an_invalid_command_gets_a_sentence(run, line):
    code, text = run(line)
    assert code in (2, 3) and "Traceback" not in text
    if line == "start ad-99":
        assert code == 3 and "there is no exercise 'ad-99'; there are: ad-01, ad-02" in text


def test_all_at_once_for_a_lecturer(run, monkeypatch):
    monkeypatch.setattr("tinynet.learn.exercises.commands.course", lambda: ("ad-02", "ad-03", "ad-04"))
    solve("ad-02"), solve("ad-03", exercise("ad-03", COURSE_FOLDER).wrong[1])
    code, text = run("check all --json")
    assert code == 1
    marks = [json.loads(line) for line in text.splitlines()]
    assert [(m["id"], m["status"], m["mistakes"]) for m in marks] == [
        ("ad-02", RIGHT, []),
        ("ad-03", WRONG, ["mean"]),
        ("ad-04", NOT_WRITTEN, []),
    ]
    assert all({"message", "findings", "hints", "viewed", "passed"} <= set(m) for m in marks)
    code, text = run("check all")
    assert code == 1 and "The gradients are added" not in text and "added, not averaged" in text


def test_records_of_two_processes_are_kept(tmp_path):
    first, second = Progress(tmp_path), Progress(tmp_path)
    first.note("ad-01", viewed=True)
    second.note("ad-02", passed=True)
    second.note("ad-01", hints=2)
    kept = Progress(tmp_path)
    assert kept["ad-01"] == Record(viewed=True, hints=2) and kept["ad-02"].passed


def test_a_damaged_record_is_a_sentence(run):
    Path("my_exercises").mkdir()
    Path("my_exercises/.progress.json").write_text("{")
    code, text = run("list")
    assert code == 3 and ".progress.json cannot be read" in text and "your exercises stay" in text


def test_a_handout_checks_without_solutions(run, tmp_path, monkeypatch):
    code, text = run("handout given --only conv-05 ad-03")
    assert code == 0 and "wrote given" in text
    assert run("handout other --only conv-5")[0] == 3
    assert run("handout given")[0] == 3, "a folder that is not empty"
    files = [f for f in Path("given").rglob("*") if f.suffix in (".py", ".md")]
    texts = "\n".join(f.read_text() for f in files)
    for id in ("ad-03", "conv-05"):
        this = exercise(id, COURSE_FOLDER)
        inside = set(map(str.strip, this.solution.splitlines())) - set(map(str.strip, this.stub.splitlines()))
        # A hint may show a line; the rest of the solution is nowhere.
        shown = " ".join(this.hints)
        assert [line for line in inside if len(line) > 25 and line in texts and line not in shown] == []
        assert not any(wrong.sentence in texts for wrong in this.wrong)
    monkeypatch.chdir(tmp_path / "given")
    mistake = next(w for w in exercise("conv-05", COURSE_FOLDER).wrong if w.name == "kernel flipped")
    assert run("check conv-05")[0] == 2
    solve("conv-05", mistake)
    code, text = run("check conv-05")
    assert code == 1 and "The kernel is flipped." in text
    solve("conv-05")
    code, text = run("check conv-05")
    assert code == 0 and "solution" not in text
    assert run("check conv-05 --seed 1")[0] == 3
    texts += "".join(run(f"hint {id}")[1] for id in ("ad-03", "conv-05"))
    assert "solution" not in texts.replace("# ---- solution", "").replace("# ---- end of solution", "")
    code, text = run("solution conv-05")
    assert code == 3 and "no solutions" in text


def test_a_class_gets_a_table(run):
    ad_02 = exercise("ad-02", COURSE_FOLDER)
    for path, text in (
        ("ann/ad-02.py", ad_02.solution),
        ("bob/my_exercises/ad-02.py", ad_02.variant(ad_02.wrong[0])),
        ("bob/ad_03.py", ""),
        ("ad-02.py", ad_02.stub),
        ("eve/notes.py", ""),
    ):
        Path("given", path).parent.mkdir(parents=True, exist_ok=True)
        Path("given", path).write_text(text)
    code, text = run("class given --csv table.csv")
    assert code == 3 and Path("table.csv").read_text().splitlines() == [
        "student,exercise,status,mistake",
        ",ad-02,could not be checked,ad-02.py lies in no student's folder",
        "ann,ad-02,right,",
        "bob,ad_03.py,could not be checked,the name ad_03.py is no exercise; is it ad-03.py?",
        "bob,ad-02,wrong,own argument",
        "eve,notes.py,could not be checked,the name notes.py is no exercise",
    ]
    assert "own argument" in text and run("class nowhere")[0] == 3


def test_a_kernel_is_used_by_a_script(run):
    solve("act-02")
    Path("script.py").write_text(
        "import sys, numpy as np, tinynet as tn\nfrom tinynet.backends.registry import implementations\n"
        "x = tn.tensor(np.ones(3, 'float32'), requires_grad=True)\ntn.elu(x).sum().backward()\n"
        "print(sys.argv[1:], implementations('elu', 'cpu'), x.grad.dtype)\n"
    )
    code, text = run("use act-02 script.py --flag 3")
    assert code == 0 and "['--flag', '3'] ['default', 'mine'] float32" in text
    solve("act-02", exercise("act-02", COURSE_FOLDER).wrong[0])
    assert run("use act-02 script.py")[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "id",
    [
        *("conv-02", "conv-04", "conv-05", "conv-06", "conv-07", "conv-08", "pool-01", "pool-02", "samp-01", "det-01"),
        "opt-01",
    ],
)
def test_a_net_learns_with_it(run, id):
    solve(id)
    code, text = run(f"use {id}")
    assert code == 0 and re.search(r"was called [1-9]\d* times", text), text


@pytest.mark.slow
def test_heat_maps_show_where_the_object_is(run):
    solve("cam-01")
    code, text = run("use cam-01")
    assert code == 0 and "give the same maps" in text
    assert int(re.search(r"in the square in (\d+) of 40 images", text)[1]) >= 36


def test_a_function_that_is_no_kernel_is_used_by_a_script(run):
    from tinynet.imaging import boxes

    original = boxes.nms
    solve("det-01"), solve("cam-01")
    Path("script.py").write_text(
        "import numpy as np\nfrom tinynet import boxes\n"
        "kept = boxes.nms(np.array([[0, 0, 4, 4], [0, 1, 4, 5.0]]), np.array([0.5, 0.75]), 0.5)\n"
        "print(boxes.nms.__module__, boxes.box_iou.__module__, kept)\n"
    )
    code, text = run("use det-01 script.py")
    assert code == 0 and "learner learner [1]" in text and boxes.nms is original
    code, text = run("use cam-01 script.py")
    assert code == 3 and "cannot take the place" in text


# ---------------------------------------------------------------------------------------- in a notebook
def test_functions_of_a_notebook():
    def summed(g, shape):
        g = g.sum(axis=tuple(range(g.ndim - len(shape))))
        return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)

    verdict = check("ad-03", summed)
    assert verdict and verdict.status == RIGHT and "right" in verdict._repr_html_()
    verdict = check("ad-03", sum_to=lambda g, shape: g)
    assert not verdict and "<pre" in verdict._repr_html_() and "<script" not in verdict._repr_html_()
    assert check("act-01").status == NOT_WRITTEN
    assert check("act-01", lambda x: 1 / (1 + np.exp(-x))).message == "to be written: backward; right so far: forward"
    with pytest.raises(ValueError, match="act-01 is made of forward, backward"):
        check("act-01", nothing=print)


def test_a_notebook_cannot_use_the_library():
    import tinynet as tn

    def by_name(gy, x, w):
        return tn.matmul(gy, w.T), None

    plain = reference.backward_input.definition

    def by_function(gy, w, input_size, geometry):
        return plain(gy, w, input_size, geometry)

    hidden = {"f": by_function}

    def by_registry(gy, w, input_size, geometry):
        from tinynet.backends.registry import kernel_to_run

        return kernel_to_run("conv2d", "backward_input")(gy, w, input_size, geometry)

    assert "uses tinynet" in check("ad-06", by_name).message
    assert check("conv-05", by_function).status == NOT_CHECKED
    assert check("conv-05", lambda *a, **k: hidden["f"](*a, **k)).status in (
        NOT_CHECKED,
        RIGHT,
    )  # the guard does not stop malicious code
    assert check("conv-05", by_registry).status == NOT_CHECKED
    assert check("conv-05", plain).status == check("conv-05", reference.backward_input).status == NOT_CHECKED


def test_what_a_learner_writes_is_escaped():
    def bad(g, shape):
        raise ValueError("<script>alert(1)</script>")

    assert "<script>" not in check("ad-03", bad)._repr_html_()
