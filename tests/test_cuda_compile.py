"""Every CUDA kernel compiles for every kind of GPU, spills nothing and takes no more registers than it is allowed.

NVIDIA's run-time compiler does that without a GPU; its package is part of the extra `test`.
"""

from __future__ import annotations

import csv
import re

import pytest

from tinynet.backends.cuda import nvrtc
from tinynet.backends.cuda.nvrtc import CompileError, NvrtcMissing, Resources
from tinynet.backends.cuda.source import FLOAT, Source
from tinynet.tools import registers

try:
    COMPILER = nvrtc.load()
except NvrtcMissing as error:
    pytest.skip(str(error), allow_module_level=True)

SOURCES = registers.sources()
REGISTERS_OF_A_BLOCK = 65536
MOST_THREADS = 1024

# The quick tests take one kind of GPU: it has tensor cores, so that every variant is compiled. All six take a minute.
# The blocked versions take half a minute for each kind; the emulator compiles them in the quick tests.
QUICK = (90,)
REST = tuple(a for a in registers.ARCHITECTURES if a not in QUICK)


def may_be_too_large(source: Source, kernel: str, registers_of_a_thread: int) -> bool:
    """Whether a block that a launch may ask for has too few registers. What promises its threads by __launch_bounds__
    is given no more than they share."""
    promised = re.search(rf"__launch_bounds__\s*\([^)]*\)\s*{kernel}\s*\(", source.text)
    return promised is None and registers_of_a_thread * MOST_THREADS > REGISTERS_OF_A_BLOCK


def check(source: Source, architectures: tuple[int, ...]) -> None:
    version, budget = registers.read_table()
    rows = registers.measure(source, architectures)
    assert {row.kernel for row in rows} == set(source.kernels)
    problems = []
    for row in rows:
        what, use = f"{row.kernel} ({row.variant}) for sm_{row.architecture}", row.resources
        if use.spill_stores or use.spill_loads:
            problems.append(f"{what} spills {use.spill_stores} + {use.spill_loads} bytes of registers to memory")
        elif use.stack:
            problems.append(f"{what} has {use.stack} bytes of stack: an array that is indexed by a variable?")
        if may_be_too_large(source, row.kernel, use.registers):
            problems.append(
                f"{what} takes {use.registers} registers, too many for a block of {MOST_THREADS} threads: promise "
                "smaller blocks by __launch_bounds__"
            )
        allowed = budget.get((row.file, row.variant, row.kernel, row.architecture))
        if version == registers.version_text(COMPILER):  # another compiler counts differently
            if allowed is None:
                problems.append(f"{what} is not in registers.csv")
            elif use.registers > allowed:
                problems.append(f"{what} takes {use.registers} registers, {allowed} are allowed")
    assert not problems, "\n".join([*problems, "if that is meant: python -m tinynet cuda registers --write"])


@pytest.mark.parametrize(
    "source",
    [pytest.param(s, marks=pytest.mark.slow) if s.path.stem.startswith("blocked") else s for s in SOURCES],
    ids=lambda s: s.name,
)
def test_kernels_compile_and_keep_to_their_registers(source):
    check(source, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.name)
def test_kernels_compile_for_the_other_gpus(source):
    check(source, REST)


def test_the_table_holds_nothing_that_is_gone():
    kept = {key[:3] for key in registers.read_table()[1]}
    kernels = {(s.name, registers.describe(v), kernel) for s in SOURCES for v in s.variants for kernel in s.kernels}
    assert kept <= kernels


# ------------------------------------------------------------------------------------- the gate itself
@pytest.fixture
def student(tmp_path):
    """A source with these lines as its file."""

    def make(text, variants=(FLOAT,)):
        path = tmp_path / "student.cu"
        path.write_text(text)
        return Source(path, variants)

    return make


def budgeted(monkeypatch, tmp_path, sources):
    monkeypatch.setattr(registers, "TABLE", tmp_path / "registers.csv")
    registers.write_table([row for source in sources for row in registers.measure(source, QUICK)])


SCALE = "KERNEL scale(const real* x, real* y, int n) { int i = threadIdx.x; if (i < n) y[i] = 2 * x[i]; }\n"


def test_a_kernel_within_its_budget_passes(student, monkeypatch, tmp_path):
    source = student(SCALE, [{"real": "float"}, {"real": "double"}])
    budgeted(monkeypatch, tmp_path, [source])
    check(source, QUICK)


def test_more_registers_than_allowed_are_noticed(student, monkeypatch, tmp_path):
    source = student(SCALE)
    budgeted(monkeypatch, tmp_path, [source])
    table = tmp_path / "registers.csv"
    first, *rows = table.read_text().splitlines()
    row = next(csv.DictReader(rows))
    table.write_text("\n".join([first, rows[0], rows[1].replace(f",{row['sm_90']},", ",1,")]) + "\n")
    with pytest.raises(AssertionError, match=r"scale \(real=float\) for sm_\d+ takes \d+ registers, 1 are allowed"):
        check(source, QUICK)
    table.write_text("\n".join([first, rows[0]]) + "\n")
    with pytest.raises(AssertionError, match="is not in registers"):
        check(source, QUICK)


@pytest.mark.parametrize(
    "body, message",
    [
        ("real a[64]; for (int i = 0; i < n; ++i) a[i % 64] = x[i]; y[0] = a[n % 64];", "bytes of stack"),
        (
            "real a[200]; for (int i = 0; i < 200; ++i) a[i] = x[i * n]; __syncthreads();"
            "for (int i = 0; i < 200; ++i) y[i] = a[i] * a[199 - i];",
            "spills",
        ),
    ],
)
def test_stack_and_spills_are_noticed(student, monkeypatch, tmp_path, body, message):
    source = student(f"KERNEL __launch_bounds__(1024) wide(const real* __restrict__ x, real* y, int n) {{ {body} }}\n")
    budgeted(monkeypatch, tmp_path, [source])
    with pytest.raises(AssertionError, match=message):
        check(source, QUICK)


@pytest.mark.parametrize("promise", ["", "__launch_bounds__(THREADS)"])
def test_large_kernels_must_promise_small_blocks(student, monkeypatch, tmp_path, promise):
    body = "real a[100]; for (int i = 0; i < 100; ++i) a[i] = x[i * n]; __syncthreads();"
    body += "for (int i = 0; i < 100; ++i) y[i] = a[i] * a[99 - i];"
    kernel = f"KERNEL {promise} wide(const real* __restrict__ x, real* y, int n) {{ {body} }}"
    source = student(f"const int THREADS = 128;\n{kernel}\n")
    budgeted(monkeypatch, tmp_path, [source])
    if promise:
        check(source, QUICK)
    else:
        with pytest.raises(AssertionError, match=r"too many for a block of 1024 threads: promise smaller blocks"):
            check(source, QUICK)


def test_tensor_cores_are_not_compiled_for_gpus_that_have_none(student):
    found = registers.jobs(student(SCALE, [{"real": "float"}, {"real": "float", "TF32": 1}]))
    assert [a for variant, a in found if "TF32" in variant] == [80, 86, 89, 90, 120]
    assert [a for variant, a in found if "TF32" not in variant] == list(registers.ARCHITECTURES)


# ------------------------------------------------------------------------------------- the compiler
def test_an_error_names_the_students_own_line(student):
    source = student("// a comment\nKERNEL scale(real* x) {\n  x[0] = size;\n}\n")
    with pytest.raises(CompileError, match=r"student\.cu\(3\): error: identifier \"size\" is undefined"):
        COMPILER.compile(source.code, source.name, 80, FLOAT)


def test_a_gpu_newer_than_the_compiler_gets_what_its_driver_can_translate(student):
    source = student(SCALE)
    newest = COMPILER.architectures[-1]
    compiled = COMPILER.compile(source.code, source.name, newest + 30, FLOAT)
    assert compiled.is_ptx and f".target sm_{newest}".encode() in compiled.binary
    machine_code = COMPILER.compile(source.code, source.name, newest, FLOAT)
    assert not machine_code.is_ptx and machine_code.binary.startswith(b"\x7fELF")


def test_resources_are_read_from_the_log(student):
    source = student(
        "__device__ __noinline__ real helper(real x) { return x * x; }\n"
        "KERNEL one(real* x) { __shared__ real s[64]; s[threadIdx.x] = x[threadIdx.x]; __syncthreads();\n"
        "                      x[threadIdx.x] = helper(s[63 - threadIdx.x]); }\n"
        "KERNEL two(real* x) { x[0] = 1; }\n"
    )
    for architecture in registers.ARCHITECTURES:
        found = nvrtc.resources(COMPILER.compile(source.code, source.name, architecture, {"real": "double"}).log)
        assert set(found) == {"one", "two"}
        assert found["one"].shared == 512 and found["two"].shared == 0
        assert 0 < found["two"].registers <= found["one"].registers < 64
        assert found["two"] == Resources(found["two"].registers, 0, 0, 0, 0)


def test_registers_are_printed(student, monkeypatch, capsys):
    from tinynet.tools.cuda_command import main

    monkeypatch.setattr(registers, "sources", lambda: [student(SCALE)])
    main(["registers"])
    out = capsys.readouterr().out
    assert re.search(r"scale +(\d+ +){7} real=float", out), out
