"""Code that wants to be called right without being right, and code that breaks the check: a table, one row each.

All files are for ad-06, whose function returns (gx, gw); none of them computes what it should.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from tinynet.learn.exercises.exercise import COURSE_FOLDER, exercise
from tinynet.learn.exercises.handout import write_handout
from tinynet.learn.exercises.runner import PACKAGE, check_file
from tinynet.learn.exercises.verdict import NOT_CHECKED, RIGHT, WRONG
from tinynet.learn.exercises.wire import MALFORMED, packed, unpacked

# How a file reaches modules that it must not import; `functions_in` takes what it needs from a text with the solution.
REACH = f"""
import collections
import numpy as np
modules = collections._sys.modules
os = modules["os"]
COURSE = {str(COURSE_FOLDER)!r}

def functions_in(text):
    names = {{"np": np, "__name__": "x"}}
    exec(text[text.index("def backward_matmul"):text.index("# ---- end of your file")], names)
    return names["backward_matmul"]

def zeros(gy, x, w):
    return np.zeros(x.shape), np.zeros(w.shape)
"""
VERDICT = '{"id": "ad-06", "status": "right", "message": "", "findings": []}'
CHEATS = {
    "np.allclose says yes": """
for name in ("allclose", "array_equal", "isclose", "shape", "abs", "max"):
    setattr(np, name, lambda *a, **k: True)
modules["numpy.testing"] = None
np.ndarray = object
backward_matmul = zeros""",
    "the judge says yes": """
for name, module in list(modules.items()):
    for f in ("judge", "agree", "same", "observe", "answer_book", "_findings", "packed"):
        if "learner" not in name and hasattr(module, f):
            setattr(module, f, lambda *a, **k: True)
__import__.__globals__.update(functions_of=None, where=None)
backward_matmul = zeros""",
    "a verdict is written everywhere": f"""
def backward_matmul(gy, x, w):
    for name in ("verdict.json", "../verdict.json"):
        open(name, "w").write('{VERDICT}')
    print('{VERDICT}')
    for fd in range(1, 20):
        try:
            os.write(fd, len(b'{VERDICT}').to_bytes(8, "big") + b'{VERDICT}')
        except OSError:
            pass
    os._exit(0)""",
    "it ends well": "def backward_matmul(gy, x, w):\n    os._exit(0)",
    "an exit handler": """
modules.get("atexit", __import__("functools")).__dict__.get("register", print)(lambda: os._exit(0))
def backward_matmul(gy, x, w):
    raise SystemExit(0)""",
    "reads the solution": "backward_matmul = functions_in(open(COURSE + '/ad_06.py').read())",
    "reads it with os": """
fd = os.open(COURSE + "/ad_06.py", os.O_RDONLY)
backward_matmul = functions_in(os.read(fd, 100000).decode())""",
    "reads it relative to its folder": """
folder = os.open(COURSE, os.O_RDONLY)
fd = os.open("ad_06.py", os.O_RDONLY, dir_fd=folder)
backward_matmul = functions_in(os.read(fd, 100000).decode())""",
    "reads it with NumPy": """
backward_matmul = functions_in(np.fromfile(COURSE + "/ad_06.py", np.uint8).tobytes().decode())""",
    "reads it through a link": """
os.symlink(COURSE + "/ad_06.py", "mine.py")
backward_matmul = functions_in(open("mine.py").read())""",
    "reads it by a name that changes": """
class Name:
    names = ["nothing", COURSE + "/ad_06.py"]
    def __fspath__(self):
        return self.names.pop(0) if self.names[1:] else self.names[0]
backward_matmul = functions_in(modules["io"].FileIO(Name()).read().decode())""",
    "imports the solution": """
importlib = modules["importlib"]
spec = modules["importlib.util"].spec_from_file_location("s", COURSE + "/ad_06.py")
module = modules["importlib.util"].module_from_spec(spec)
spec.loader.exec_module(module)
backward_matmul = module.backward_matmul""",
    "imports tinynet by another way": """
import importlib
matmul = importlib.import_module("tinynet.ops.matmul.reference")
def backward_matmul(gy, x, w):
    return matmul.backward_a(gy, x, w), matmul.backward_b(gy, x, w)""".replace("import importlib", ""),
    "the library's own operation": """
tn = modules.get("tinynet") or __import__.__globals__["builtins"].__import__("tinynet")
def backward_matmul(gy, x, w):
    a, b = tn.tensor(x, requires_grad=True), tn.tensor(w, requires_grad=True)
    return tuple(np.asarray(g.data) for g in tn.grad(tn.matmul(a, b), [a, b], gy))""",
    "the library's kernels follow": """
for name, module in list(modules.items()):
    if name.startswith("tinynet"):
        for attribute in list(vars(module)):
            setattr(module, attribute, zeros)
backward_matmul = zeros""",
    "looks for the answer in the frames": """
def backward_matmul(gy, x, w):
    frame, found = collections._sys._getframe(), []
    while frame:
        found += [v for v in {**frame.f_globals, **frame.f_locals}.values() if isinstance(v, np.ndarray)]
        frame = frame.f_back
    pick = lambda like: next((a for a in found if a.shape == like.shape and a is not like), like)
    return pick(x), pick(w)""",
    "looks for the solution in the memory": """
import_ = __import__.__globals__["builtins"].__import__
texts = [s for s in import_("gc").get_objects() if isinstance(s, dict)]
text = next(v for d in texts for v in list(d.values()) if isinstance(v, str) and "gy @ w.T, gw" in v and "def" in v)
backward_matmul = functions_in(text)""",
    "asks another program": """
out = modules.get("subprocess") or __import__.__globals__["builtins"].__import__("subprocess")
backward_matmul = functions_in(out.run(["cat", COURSE + "/ad_06.py"], capture_output=True, text=True).stdout)""",
    "starts another process": """
def backward_matmul(gy, x, w):
    if os.fork() == 0:
        while True:
            pass
    return zeros(gy, x, w)""",
    "calls the C library": """
c = __import__.__globals__["builtins"].__import__("ctypes")
libc = c.CDLL(None)
fd, buffer = libc.open((COURSE + "/ad_06.py").encode(), 0), c.create_string_buffer(100000)
libc.read(fd, buffer, 100000)
backward_matmul = functions_in(buffer.value.decode())""",
    "another judge for the next check": """
open("judge.py", "w").write("")
for do in (os.rename, os.link, os.symlink):
    try:
        do("judge.py", os.path.join(COURSE, "zz.py"))
    except PermissionError:
        pass
open(os.path.join(COURSE, "zz.py"), "w").write("")
backward_matmul = zeros""",
    "the course is its folder": """
os.chdir(COURSE)
backward_matmul = functions_in(open("ad_06.py").read())""",
    "an object that equals everything": """
class Everything:
    shape, dtype, size = (), np.dtype(float), 1
    __eq__ = __ge__ = __le__ = lambda self, other: True
    __array__ = lambda self, *a, **k: np.array(0.0)
    __array_function__ = __array_ufunc__ = lambda self, *a, **k: True
def backward_matmul(gy, x, w):
    return Everything(), Everything()""",
    "an array that equals everything": """
class Liar(np.ndarray):
    __eq__ = lambda self, other: np.ones(self.shape, bool)
    __array_function__ = __array_ufunc__ = lambda self, *a, **k: True
    __sub__ = __rsub__ = __abs__ = lambda self, *a: np.zeros(self.shape)
def backward_matmul(gy, x, w):
    return tuple(a.view(Liar) for a in zeros(gy, x, w))""",
    "the arguments become the answer": """
def backward_matmul(gy, x, w):
    gy[...] = x[...] = w[...] = 0
    return zeros(gy, x, w)""",
    "never written": "def backward_matmul(gy, x, w):\n    raise NotImplementedError",
    "an exception that is no Exception": "def backward_matmul(gy, x, w):\n    raise GeneratorExit",
}


def verdict_of(folder, code, **options):
    file = folder / "ad-06.py"
    file.write_text(REACH + code + "\n")
    return check_file("ad-06", file, **options)


@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_no_cheat_is_called_right(tmp_path, code):
    verdict = verdict_of(tmp_path, code)
    assert verdict.status != RIGHT, str(verdict)
    assert "Traceback" not in verdict.message
    assert not (COURSE_FOLDER / "zz.py").exists()


def test_the_table_would_notice(tmp_path):
    text = exercise("ad-06", COURSE_FOLDER).solution
    (tmp_path / "solution.txt").write_text(text + "\n# ---- end of your file\n")
    code = f"backward_matmul = functions_in(open({str(tmp_path / 'solution.txt')!r}).read())"
    assert verdict_of(tmp_path, code).status == RIGHT, "a file that nobody protects"


def test_the_answers_of_a_handout_are_not_readable(tmp_path, monkeypatch):
    write_handout(tmp_path / "given", ["ad-06"])
    monkeypatch.chdir(tmp_path / "given")
    answers = tmp_path / "given" / "tinynet_checks" / "ad_06.npz"
    code = f"""
kept = dict(np.load({str(answers)!r}))
turn = iter([i for i in range(9) for _ in range(2)])
def backward_matmul(gy, x, w):
    i = next(turn)
    return kept[f"solution/{{i}}/gx"], kept[f"solution/{{i}}/gw"]"""
    for cheat in (code, CHEATS["reads the solution"]):
        verdict = verdict_of(tmp_path, cheat)
        assert verdict.status == NOT_CHECKED and "may hold the answer" in verdict.message, str(verdict)
    shutil.copy(answers, tmp_path / "copy.npz")
    verdict = verdict_of(tmp_path, code.replace(str(answers), str(tmp_path / "copy.npz")))
    assert verdict.status == RIGHT, "otherwise the test above proves nothing"


# ---------------------------------------------------------------------------------------- what breaks a check
GOOD = "\ndef backward_matmul(gy, x, w):\n    gw = x.reshape(-1, x.shape[-1]).T @ gy.reshape(-1, gy.shape[-1])\n"
DONE = "    return gy @ w.T, gw"


@pytest.mark.parametrize(
    "code, status, message",
    [
        ("    if os.path.exists(__file__):\n        os.remove(__file__)\n", RIGHT, "was put back"),
        ("    os.remove(__file__)\n    os.mkfifo(__file__)\n" * 2, RIGHT, "was put back"),
        ("    os.mkfifo('pipe')\n    open('pipe')\n", NOT_CHECKED, "stopped at line 19: `open.'pipe'.`"),
        ("    return np.zeros(2**25), gw\n", WRONG, r"an array of shape \(33554432,\) is too large"),
        ("    os.close(3), os.close(4)\n", NOT_CHECKED, "ended the process before the check was done"),
        ("    os.write(4, bytes(range(200, 210)) + b'\\n')\n", NOT_CHECKED, "sent what is no result"),
        ('    os.write(4, b\'{"list": ["value", 1]}\\n\')\n', NOT_CHECKED, "sent what is no result"),
        ("    while True:\n        os.write(4, b'x' * 2**20)\n", NOT_CHECKED, "could not be checked"),
        ("    while True:\n        os.write(4, b'x' * 2**20 + b'\\n')\n", NOT_CHECKED, "could not be checked"),
        ("    os.kill(os.getpid(), 9)\n", NOT_CHECKED, "ended the process"),
    ],
)
def test_a_check_survives(tmp_path, code, status, message):
    verdict = verdict_of(tmp_path, GOOD + code + DONE, seconds=1.0)
    assert verdict.status == status and re.search(message, str(verdict)), str(verdict)
    assert (tmp_path / "ad-06.py").read_text() == REACH + GOOD + code + DONE + "\n"


@pytest.mark.parametrize(
    "write", ["open(record, 'w').write(text)", "open('x', 'w').write(text); os.rename('x', record)"]
)
def test_the_record_of_what_was_passed_is_not_written(tmp_path, write):
    record = tmp_path / ".progress.json"
    code = f"record, text = {str(record)!r}, '{{}}'\n{write}\n{GOOD}{DONE}"
    assert "the record of what was passed" in verdict_of(tmp_path, code).message and not record.exists()


def test_a_byte_order_mark_is_accepted(tmp_path):
    file = tmp_path / "ad-06.py"
    file.write_text(exercise("ad-06", COURSE_FOLDER).solution, encoding="utf-8-sig")
    assert check_file("ad-06", file).status == RIGHT


def test_what_is_not_a_file_is_a_sentence(tmp_path):
    os.mkfifo(tmp_path / "ad-06.py")
    assert "is not an ordinary file" in check_file("ad-06", tmp_path / "ad-06.py").message


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system tells nobody that a process ended")
def test_a_killed_check_takes_the_learner_with_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    code = f"\nopen({str(tmp_path / 'pipe')!r}, 'w').write(str(os.getpid()))\nwhile True:\n    pass\n"
    (tmp_path / "ad-06.py").write_text(REACH + code)
    command = f"""from pathlib import Path
from tinynet.learn.exercises.runner import check_file
check_file("ad-06", Path({str(tmp_path / "ad-06.py")!r}))"""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    with subprocess.Popen([sys.executable, "-c", command], env=environment) as check:
        assert select.select([pipe], [], [], 30)[0], "the check did not start"
        learner = os.pidfd_open(int(os.read(pipe, 100)))
        check.send_signal(signal.SIGKILL)
    ended, _, _ = select.select([learner], [], [], 9)  # the time limit of the check itself is 10 s
    os.close(learner), os.close(pipe)
    assert ended


# ---------------------------------------------------------------------------------------- messages
def through(value):
    return unpacked(packed(value))


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, "text", [1, (2, [3])], {"a": 1, 2: (3, None)}, np.arange(6.0).reshape(2, 3),
        np.array(3, "int8"), np.float32(2), np.bool_(True), np.zeros((0, 3)), np.arange(6.0).reshape(2, 3).T,
        np.arange(3, dtype=">i4"), [np.nan, np.inf],
    ],
)  # fmt: skip
def test_a_value_arrives_as_it_was(value):
    arrived = through(value)
    assert type(arrived) is type(value)
    np.testing.assert_equal(arrived, value)
    assert getattr(arrived, "dtype", None) == getattr(value, "dtype", None)


def test_what_is_no_number_arrives_as_its_name():
    arrived = through([np.array(["a"]), 1j, object])
    assert [type(a).__name__ for a in arrived] == ["ndarray", "complex", "type"] and repr(arrived[1]) == "1j"


def test_a_damaged_message_is_an_error():
    data, rng = packed(["value", np.arange(4.0), {"a": (1, 2)}]), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] = rng.integers(256)
        with contextlib.suppress(MALFORMED):
            unpacked(bytes(damaged))
