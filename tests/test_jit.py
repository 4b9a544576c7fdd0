"""The compile cache: an edit takes effect in the next process, unchanged sources are served from disk.

Each test writes a small package with the real jit.py to a temporary folder and runs it in new processes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinynet import files
from tinynet.backends import threads
from tinynet.backends.numba import announce, claims, helpers, jit, separate, settings

# cpu.py -> helper.py -> shared.py: the constant stands two imports away from the kernel.
FILES = {
    "__init__.py": "",
    "backends/__init__.py": "",
    "backends/numba/__init__.py": "",
    "ops/__init__.py": "",
    "ops/shared.py": "FACTOR = 2\n",
    "ops/helper.py": (
        "from numba import njit\nfrom .shared import FACTOR\n@njit\ndef scale(x):\n    return FACTOR * x\n"
    ),
    "ops/toy/__init__.py": "",
    "ops/toy/cpu.py": (
        "from ..helper import scale\nfrom ...backends.numba.jit import jit\n"
        "@jit\ndef kernel(x):\n    return scale(x)\n"
        "print(kernel(10), sum(kernel.stats.cache_hits.values()))\n"
    ),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A tinynet of a few lines, around the real jit.py."""
    root = tmp_path / "tinynet"
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for module in (jit, announce, claims, helpers, separate, settings, files, threads):
        shutil.copy(module.__file__, root / Path(module.__file__).relative_to(jit.PACKAGE))
    return root


def run_process(package: Path, folder: Path) -> subprocess.CompletedProcess:
    """Import the toy's cpu.py in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", "import tinynet.ops.toy.cpu"],
        env={**os.environ, "PYTHONPATH": str(package.parent), "TINYNET_CACHE": str(folder)},
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def run(package: Path, folder: Path) -> tuple[int, int]:
    """(kernel(10), how many compiled functions came from the cache), in a new process."""
    result, hits = run_process(package, folder).stdout.split()
    return int(result), int(hits)


def test_an_edit_two_imports_away_takes_effect_and_unchanged_code_is_not_compiled_again(package, tmp_path):
    cache = tmp_path / "cache"
    assert run(package, cache) == (20, 0), "the first run compiles"
    assert run(package, cache) == (20, 1), "unchanged sources come from the cache"
    (package / "ops" / "shared.py").write_text("FACTOR = 3\n")
    assert run(package, cache) == (30, 0), "after an edit of a constant, old machine code must not run"
    (package / "ops" / "shared.py").write_text("FACTOR = 2\n")
    assert run(package, cache) == (20, 1), "the first machine code is still there"


def test_one_function_compiled_in_two_ways_is_kept_twice(package, tmp_path, monkeypatch):
    """The second process must load different machine code for each way. The ways differ in the result of 1/0."""
    (package / "ops" / "toy" / "cpu.py").write_text(
        "from ...backends.numba.jit import jit\n"
        "def divide(x):\n    return 1 / (x - 10)\n"
        "ways = [jit(divide), jit(fastmath={'nsz', 'arcp', 'contract'})(divide), jit(error_model='python')(divide)]\n"
        "results = []\n"
        "for way in ways:\n"
        "    try:\n        results.append(way(10.0))\n"
        "    except ZeroDivisionError:\n        results.append(0)\n"
        "print(int(results == [float('inf'), float('inf'), 0]), sum(sum(w.stats.cache_hits.values()) for w in ways))\n"
    )
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    assert run(package, tmp_path / "cache") == (1, 0)
    monkeypatch.setenv("PYTHONHASHSEED", "3")  # another order of the elements of a set
    assert run(package, tmp_path / "cache") == (1, 3)


def test_two_processes_that_compile_at_once_do_not_mix_up_their_code(package, tmp_path):
    """Both read the cache before either has written, and write in either order: each code has its own file."""
    (package / "ops" / "toy" / "cpu.py").write_text(
        "import contextlib, io, pathlib\nfrom ...backends.numba.jit import jit\n"
        "@jit\ndef half(x):\n    return x / 2\n"
        "files, written = half._cache._cache_file, []\n"
        "@contextlib.contextmanager\ndef write_later(path):\n"
        "    content = io.BytesIO()\n    yield content\n    written.append((path, content.getvalue()))\n"
        "files._load_index, files._open_for_write = dict, write_later\n"
        "half(3), half(3.5)\n"
        "del files._load_index, files._open_for_write\n"
        "for path, content in reversed(written):\n    pathlib.Path(path).write_bytes(content)\n"
        "again = jit(half.py_func)\n"
        "print(int([again(3.5), again(3)] == [1.75, 1.5]), sum(again.stats.cache_hits.values()))\n"
    )
    assert run(package, tmp_path / "cache") == (1, 2)


def test_a_damaged_file_is_compiled_anew(monkeypatch, tmp_path):
    """Empty, cut in half, one byte changed (in the pickle or in its machine code), or a pickle that cannot be read."""
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path))

    def double(x):
        return 2 * x

    def hits():
        """How many compiled functions come from the cache where the function is called for the first time."""
        kernel = jit.jit(double)
        assert kernel(10) == 20
        return sum(kernel.stats.cache_hits.values())

    assert [hits(), hits()] == [0, 1]
    (file,) = tmp_path.rglob("*.nbc")
    whole = file.read_bytes()
    another_byte = [
        whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in (0, 20, len(whole) // 2, len(whole) - 9)
    ]
    pickles = (b"cno_such_module\nname\n.", b"cnumpy\nno_such_name\n.", b"I1\nN\x85R.", b"no pickle")
    unreadable = [jit._digest(pickled).encode() + pickled for pickled in pickles]
    for broken in (b"", whole[: len(whole) // 2], *another_byte, *unreadable):
        file.write_bytes(broken)
        assert [hits(), hits()] == [0, 1], "compiled anew, and kept"


def test_what_numba_compiles_at_another_level_is_kept_apart(package, tmp_path, monkeypatch):
    for level in "13":
        monkeypatch.setenv("NUMBA_OPT", level)
        assert run(package, tmp_path / "cache") == (20, 0)


def test_compiling_is_announced_by_a_line_and_a_new_date_is_no_reason_to_compile_again(package, tmp_path):
    first = run_process(package, tmp_path / "cache")
    assert first.stdout == "20 0\n"
    assert first.stderr.count("\n") == 1 and "compiling kernels" in first.stderr, "no bar: this is no terminal"
    assert first.stderr.endswith(f"they are kept in {tmp_path / 'cache'}\n")
    os.utime(package / "ops" / "toy" / "cpu.py", (1e9, 1e9))
    second = run_process(package, tmp_path / "cache")
    assert (second.stdout, second.stderr) == ("20 1\n", "")


def test_a_cache_folder_that_cannot_be_written_does_no_harm(package, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = run_process(package, tmp_path / "file" / "cache")
    assert done.stdout == "20 0\n"
    assert done.stderr.endswith(f"{tmp_path / 'file' / 'cache'} cannot be written: they are not kept\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_does_no_harm(package, tmp_path):
    """A limit on the size of files acts like a full disk: the machine code does not fit."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    (package / "__init__.py").write_text(limit)
    assert run(package, tmp_path / "cache") == (20, 0)
    (package / "__init__.py").write_text("")
    assert run(package, tmp_path / "cache") == (20, 0), "what could not be saved is compiled again"


# cpu.py -> factory.py: the kernel is a closure over a number, an array, a compiled function and an intrinsic.
FACTORY = """
from numba import njit, types
from numba.extending import intrinsic
from ..backends.numba.jit import jit

def adder(number):
    @intrinsic
    def add(typing_context, x):
        def generate(context, builder, signature, arguments):
            return builder.add(arguments[0], context.get_constant(types.int64, number))
        return types.int64(types.int64), generate
    return add

def make(array, number):
    add, last = adder(number), int(array[-1])
    @njit
    def scale(x):
        return last * x
    @jit
    def kernel(x):
        return add(scale(x)) + len(array)
    return kernel
"""
CLOSURE = "import numpy as np\nfrom ..factory import make\nkernel = make(np.array([{0}]), {1})\n"
CLOSURES = """
import numpy as np
from ..factory import make
kernels = [make(np.array(array), number) for array, number in (([1, 3], 5), ([1, 4], 5), ([2, 3], 5), ([1, 3], 6))]
print(int([kernel(10) for kernel in kernels] == {0}), sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels))
"""


def test_functions_made_by_a_factory_are_cached_separately(package, tmp_path):
    cache, source = tmp_path / "cache", package / "ops" / "toy" / "cpu.py"
    (package / "ops" / "factory.py").write_text(FACTORY)
    source.write_text(CLOSURES.format([37, 47, 37, 38]))
    assert [run(package, cache) for _ in range(2)] == [(1, 0), (1, 4)]
    (package / "ops" / "factory.py").write_text(FACTORY.replace("last * x", "2 * last * x"))
    source.write_text(CLOSURES.format([67, 87, 67, 68]))
    assert run(package, cache) == (1, 0)


def test_what_a_closure_holds_must_be_identifiable(package, monkeypatch):
    things = object()
    with pytest.raises(TypeError, match="cannot identify a function that closes over a object"):
        jit.jit(lambda x: things)


# cpu.py -> helper.py: the kernel calls a separate function in a parallel loop. If SHIFT is set, the process compiles
# other functions first: Numba then gives the separate function another name.
SEPARATE = {
    "ops/helper.py": (
        "from .shared import FACTOR\nfrom ..backends.numba.jit import jit\n"
        "@jit(separate=True)\ndef scale(x):\n    return FACTOR * x\n"
        "@jit\ndef unrelated(x):\n    return x + 1\n"
    ),
    "ops/toy/cpu.py": (
        "import os\nfrom numba import prange\nfrom ..helper import scale, unrelated\n"
        "from ...backends.numba.jit import jit\n"
        "@jit(parallel=True)\ndef kernel(x):\n    total = 0\n    for i in prange(2):\n        total += scale(x)\n"
        "    return total // 2\n"
        "if 'SHIFT' in os.environ:\n    unrelated(1.0), unrelated(1), unrelated(1j)\n"
        "print(kernel(10), sum(f.stats.cache_hits.get(s, 0) for f in (kernel, scale) for s in f.overloads))\n"
    ),
}


@pytest.fixture
def separate_package(package: Path) -> Path:
    for name, text in SEPARATE.items():
        (package / name).write_text(text)
    return package


def test_a_separate_function_is_loaded_with_the_kernel_that_calls_it(separate_package, tmp_path):
    cache = tmp_path / "cache"
    assert [run(separate_package, cache) for _ in range(2)] == [(20, 0), (20, 2)]
    (separate_package / "ops" / "shared.py").write_text("FACTOR = 3\n")
    assert run(separate_package, cache) == (30, 0)


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-9]), marks=pytest.mark.slow)],
)
def test_where_a_separate_function_is_lost_its_callers_are_compiled(separate_package, tmp_path, monkeypatch, damage):
    cache = tmp_path / "cache"
    run(separate_package, cache)
    for file in list(cache.rglob("*scale-*.nbc")):
        damage(file)
    monkeypatch.setenv("SHIFT", "1")
    assert run(separate_package, cache) == (20, 0), "the kernel knows the function by a name that is gone"


def test_functions_of_one_name_from_several_processes_are_told_apart(package, tmp_path):
    """Two processes compile one function each, with the same number. Then a third process loads both."""
    cache, source = tmp_path / "cache", package / "ops" / "toy" / "cpu.py"
    (package / "ops" / "factory.py").write_text(FACTORY)
    show = "print({0}, sum(sum(f.stats.cache_hits.values()) for f in (kernel, other)))\n"
    both = CLOSURE.format("1, 3", 5) + "other = make(np.array([1, 4]), 5)\n"
    for calls, result in [
        ("kernel(10)", (37, 0)),
        ("other(10)", (47, 0)),
        ("kernel(10) * 1000 + other(10)", (37047, 2)),
    ]:
        source.write_text(both + show.format(calls))
        assert run(package, cache) == result


@pytest.mark.parametrize(
    "line",
    [
        "import tinynet.ops.other",
        "import tinynet.ops.other as o",
        "from tinynet.ops import other",
        "from tinynet.ops.other import CONSTANT",
        "from ..other import CONSTANT",
        "from .. import other",
        "from ..folder import CONSTANT",
        "from ..folder import inside",
        "def f():\n    from ..other import CONSTANT",
        "try:\n    from ..other import CONSTANT\nexcept ImportError:\n    pass",
    ],
)
def test_every_way_to_import_counts(package, monkeypatch, line):
    monkeypatch.setattr(jit, "PACKAGE", package)
    key = jit.content_key.__wrapped__  # without the memory of the process
    imported = [package / "ops" / name for name in ("other.py", "folder/__init__.py", "folder/inside.py")]
    imported[1].parent.mkdir()
    for file in imported:
        file.write_text("CONSTANT = 1\n")
    source = package / "ops" / "toy" / "cpu.py"
    source.write_text(line + "\n")
    before = key(source)
    assert key(source) == before
    for file in imported:
        file.write_text("CONSTANT = 2\n")
    assert key(source) != before


def test_what_is_not_imported_does_not_count(package, monkeypatch):
    monkeypatch.setattr(jit, "PACKAGE", package)
    source = package / "ops" / "toy" / "cpu.py"
    before = jit.content_key.__wrapped__(source)
    (package / "ops" / "unrelated.py").write_text("x = 1\n")
    assert jit.content_key.__wrapped__(source) == before


def test_importing_numpy_or_nothing_by_name_is_no_error(package, monkeypatch):
    monkeypatch.setattr(jit, "PACKAGE", package)
    source = package / "ops" / "toy" / "cpu.py"
    source.write_text("import os, numpy as np\nfrom numpy import linalg\nfrom . import missing\n")
    assert len(jit.content_key.__wrapped__(source)) == 16


def test_the_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path))
    assert files.cache_folder() == tmp_path
    monkeypatch.delenv("TINYNET_CACHE")
    assert files.cache_folder().name == "tinynet"


def test_the_cache_of_other_numba_functions_stays_where_it_was(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path))
    before = jit.numba.config.CACHE_DIR
    jit.jit(lambda x: x)
    assert any(tmp_path.iterdir()), "the function has a folder of its own"
    assert before == jit.numba.config.CACHE_DIR


# ------------------------------------------------------------------------------------- threads between kernels
def openmp_settings(**variables: str) -> tuple[str, str, str]:
    """OpenMP's wait policy and spin count, as OpenMP prints them, and its variables left in the environment."""
    code = """
import contextlib, os, tinynet.backends.numba.jit
print(sorted(name for name in os.environ if name in tinynet.backends.numba.jit.BETWEEN_KERNELS))
with contextlib.suppress(ImportError):
    import numba.np.ufunc.omppool  # with the first parallel kernel, if not before
"""
    clean = {name: value for name, value in os.environ.items() if name not in jit.BETWEEN_KERNELS}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "OMP_DISPLAY_ENV": "verbose", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    said = dict(re.findall(r"(OMP_WAIT_POLICY|GOMP_SPINCOUNT) = '(\w+)'", done.stderr))
    if len(said) < 2:
        pytest.skip("Numba does not run on GNU's OpenMP here")
    return said["OMP_WAIT_POLICY"], said["GOMP_SPINCOUNT"], done.stdout.strip()


@pytest.mark.parametrize(
    ("variables", "policy", "count", "left"),
    [
        ({}, "PASSIVE", range(2000, 2001), "[]"),  # threads spin a little; the environment is left as it was
        ({"OMP_WAIT_POLICY": "active"}, "ACTIVE", range(10**6, 10**20), "['OMP_WAIT_POLICY']"),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE", range(7, 8), "['GOMP_SPINCOUNT']"),
    ],
)
def test_threads_spin_a_little_unless_the_user_says_otherwise(variables, policy, count, left):
    actual = openmp_settings(**variables)
    assert actual[0] == policy and int(actual[1]) in count and actual[2] == left


# ------------------------------------------------------------------------------------- what is said while compiling
class FakeDispatcher:
    """The attributes of a Numba function that the announcer reads."""

    def __init__(self, module: str, compiled: bool = False) -> None:
        self.__module__, self.overloads = module, {1: 1} if compiled else {}


def test_compiling_is_announced_once_and_counted(tmp_path, monkeypatch, capsys):
    """A line on stderr at the first compilation, and a bar (description, done, expected, closed) for each module."""
    bars = []

    class Bar:
        def __init__(self, desc, initial, total, **options):
            self.shown = [desc, initial, total, False]
            bars.append(self.shown)

        def close(self):
            self.shown[3] = True

        @staticmethod
        def write(line, file):
            print(line, file=file)

    def compile(kernel, *callees):
        """One compilation. The functions that the kernel calls are compiled inside it."""
        data = SimpleNamespace(data={"dispatcher": kernel})
        announcer.on_start(data)
        for callee in callees:
            compile(callee)
        announcer.on_end(data)
        kernel.overloads[1] = 1

    monkeypatch.setattr("tqdm.tqdm", Bar)
    announcer = announce.Announcer(tmp_path)
    announcer.kernels = [FakeDispatcher(f"tinynet.ops.{name}.cpu") for name in ("elu", "elu", "elu", "tanh")]
    first, second, third, other = announcer.kernels
    compile(FakeDispatcher("program_of_the_user"))
    assert capsys.readouterr().err == "" and not bars
    compile(first, second, FakeDispatcher("numba.np"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "compiling kernels" in said and str(tmp_path) in said
    compile(third)
    compile(other)
    assert capsys.readouterr().err == ""
    assert bars == [
        ["compiling elu.cpu", 0, 1, True],
        ["compiling elu.cpu", 2, 3, True],
        ["compiling tanh.cpu", 3, 4, True],
    ]


def test_an_edit_of_the_engine_compiles_no_kernel_again():
    """A kernel's key covers all files it is built from. An edit of the engine would cost a minute."""
    folders = jit.PACKAGE / "ops"
    for file in [*folders.glob("*/cpu.py"), folders / "conv2d" / "winograd.py"]:
        assert not [path for path in jit._sources(file) if path.name == "registry.py" or path.parent.name == "engine"]
