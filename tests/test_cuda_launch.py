"""Reading a `.cu` file, and the launcher: nothing that does not fit the C signature reaches a kernel."""

from __future__ import annotations

import numpy as np
import pytest

from tinynet.backends import launch as launcher
from tinynet.backends.cuda.source import DOUBLE, FLOAT, Source
from tinynet.backends.launch import launch

TEXT = """// with _cuda/activations.cuh
// KERNEL not_this(int n)
/* KERNEL nor_this(int n) */
KERNEL scale(const real* __restrict__ x, real* y, size_t n,
             real factor  /* times this */, int repeats) {
}

KERNEL __launch_bounds__(128) pick(const float4* x, OPTIONAL const real *w, u8* mask, unsigned int seed, double eps) {}
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "student.cu"
    path.write_text(TEXT)
    return Source(path, variants=[FLOAT, DOUBLE, {"real": "float", "TILE": 16}])


@pytest.fixture
def launched(monkeypatch):
    """What reaches the emulator, in place of running it."""
    calls = []

    class Engine:
        launch = calls.append

    monkeypatch.setattr(launcher, "_engine", lambda kernel, arrays: Engine)
    return calls


X, Y = np.zeros(6, np.float32), np.zeros(6, np.float32)


# ------------------------------------------------------------------------------------- the file
def test_signatures_are_read_and_comments_are_not(source):
    assert list(source.kernels) == ["scale", "pick"]
    scale = [(p.type, p.is_pointer, p.name) for p in source.signature("scale")]
    assert scale == [
        ("real", True, "x"),
        ("real", True, "y"),
        ("size_t", False, "n"),
        ("real", False, "factor"),
        ("int", False, "repeats"),
    ]
    assert [p.is_optional for p in source.signature("pick")] == [False, True, False, False, False]
    assert [p.type for p in source.signature("pick")] == ["float4", "real", "u8", "unsigned int", "double"]


def test_the_code_has_the_headers_in_front_and_counts_the_students_lines(source):
    code = source.code
    assert "#include" not in code.replace("//", "#")[: code.index("KERNEL scale")].split("#define")[0]
    order = [
        code.index(f'#line 1 "{name}"')
        for name in ("tinynet/ops/_cuda/common.cuh", "tinynet/ops/_cuda/activations.cuh")
    ]
    own = code.index(f'#line 1 "{source.name}"')
    assert order == sorted(order) and own > order[-1]
    after = code[own:].splitlines()[1:]
    assert after[3].startswith("KERNEL scale"), "line 4 of the student's file"


def test_a_signature_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "odd.cu"
    path.write_text("KERNEL k(Shape<3> shape, int n) {}\n")
    with pytest.raises(ValueError, match=r"odd\.cu: k: the parameter `Shape<3> shape` cannot be read; scalars and"):
        Source(path).signature("k")


def test_an_unknown_kernel_or_variant_is_refused_with_those_there_are(source, launched):
    with pytest.raises(ValueError, match="has no kernel 'scal'; it has: scale, pick"):
        launch(source, "scal", 1, 32, X)
    with pytest.raises(ValueError, match="is not built with real=float, TILE=8; its variants are: real=float"):
        launch(source, "scale", 1, 32, X, Y, 6, 1.0, 1, TILE=8)
    assert not launched


# ------------------------------------------------------------------------------------- arguments
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, Y, 6, 1.0), TypeError, "scale: 4 arguments given, its signature has 5: x, y, n, factor, repeats"),
        ((X, Y, 6, 1.0, 1, 2), TypeError, "6 arguments given"),
        ((X, Y.astype("f8"), 6, 1.0, 1), TypeError, "scale: y is float64; the kernel reads float32"),
        ((X.astype("i4"), Y, 6, 1.0, 1), TypeError, "x is int32; float32 or float64 is needed"),
        ((X, Y[::2], 6, 1.0, 1), ValueError, r"scale: y \(3,\) is not contiguous"),
        ((X, None, 6, 1.0, 1), TypeError, "scale: y is a NoneType; an array is needed"),
        ((X, [1.0], 6, 1.0, 1), TypeError, "scale: y is a list; an array is needed"),
        ((X, np.float32(1), 6, 1.0, 1), TypeError, "scale: y is a float32; an array is needed"),
        ((X, Y, -1, 1.0, 1), ValueError, "scale: n is -1; a number from 0 to"),
        ((X, Y, 6, 1.0, 2**31), ValueError, r"scale: repeats is 2147483648; .*\(int32\) is needed"),
        ((X, Y, 6, 1.0, 1.5), TypeError, "scale: repeats is 1.5; a whole number is needed"),
        ((X, Y, 6, 1.0, float("nan")), (TypeError, ValueError), "scale: repeats is nan; a whole number is needed"),
        ((X, Y, 6, "1", 1), TypeError, "scale: factor is a str; a number is needed"),
        ((X, Y, 6, X, 1), TypeError, "scale: factor is a ndarray; a number is needed"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(source, launched, arguments, error, message):
    with pytest.raises(error, match=message):
        launch(source, "scale", 1, 32, *arguments)
    assert not launched


def test_scalars_arrive_in_the_kernels_types(source, launched):
    """Python's float is a double and its int 64 bits wide; the kernel reads what its signature says."""
    launch(source, "scale", 2, (8, 4), X, Y, np.int32(6), 1, True)
    call, arguments = launched[0], launched[0].arguments
    assert (call.kernel, call.macros, call.grid, call.block) == ("scale", {"real": "float"}, (2, 1, 1), (8, 4, 1))
    assert arguments[0] is X and [type(a) for a in arguments[2:]] == [np.uint64, np.float32, np.int32]
    wide = X.astype("f8")
    launch(source, "scale", 1, 32, wide, wide, 6, 1 / 3, 1)
    assert launched[1].macros == {"real": "double"} and launched[1].arguments[3] == np.float64(1 / 3)


def test_a_null_pointer_only_where_it_is_optional(source, launched):
    mask = np.zeros(6, np.uint8)
    launch(source, "scale", 1, 32, X, Y, 6, 1.0, 1, TILE=16)
    launch(source, "pick", 1, 32, X, X, mask, 7, 1e-9)
    with pytest.raises(TypeError, match="pick: x is a NoneType"):
        launch(source, "pick", 1, 32, None, X, mask, 7, 1e-9)
    assert launched[0].macros == {"real": "float", "TILE": 16}


def test_grids_and_blocks_that_no_gpu_takes(source, launched):
    arguments = (X, Y, 6, 1.0, 1)
    launch(source, "scale", 0, 32, *arguments)
    launch(source, "scale", (4, 0), 32, *arguments)
    assert not launched, "nothing runs for an empty grid"
    for grid, block, error, message in [
        ((1, 65536), 32, ValueError, r"a grid of \(1, 65536, 1\) blocks"),
        ((1, 1, 65536), 32, ValueError, "a GPU takes at most"),
        (2**31, 32, ValueError, "a GPU takes at most"),
        (-1, 32, ValueError, r"a grid of \(-1, 1, 1\) blocks"),
        ((1, 1, 1, 1), 32, TypeError, r"scale: grid is \(1, 1, 1, 1\); a whole number or up to three \(x, y, z\)"),
        (2.5, 32, TypeError, "scale: grid is 2.5"),
        (1, 2048, ValueError, r"a block of \(2048, 1, 1\) threads; from 1 to 1024"),
        (1, (32, 33), ValueError, "threads; from 1 to 1024"),
        (1, (1, 1, 65), ValueError, r"at most \(1024, 1024, 64\) in x, y and z"),
        (1, 0, ValueError, "threads; from 1 to 1024"),
        (1, (-2, -2), ValueError, "threads; from 1 to 1024"),
    ]:
        with pytest.raises(error, match=message):
            launch(source, "scale", grid, block, *arguments)
    launch(source, "scale", np.int64(2), [8, 2, 64], *arguments)
    assert (launched[0].grid, launched[0].block) == ((2, 1, 1), (8, 2, 64))


def test_a_scalar_real_without_an_array_has_the_type_of_the_variant(tmp_path, launched):
    path = tmp_path / "fill.cu"
    path.write_text("KERNEL fill(u8* y, real value) {}\n")
    for macro, dtype in (("float", np.float32), ("double", np.float64)):
        launch(Source(path), "fill", 1, 1, np.zeros(1, np.uint8), 0.1, real=macro)
        assert launched.pop().arguments[1] == dtype(0.1)


def test_contiguous_keeps_the_shape():
    for array in (np.ones(()), np.ones((2, 3))[:, ::2], np.ones((0, 2))):
        assert launcher.contiguous(array).shape == array.shape and launcher.contiguous(array).flags.c_contiguous


def test_blocks_cover_every_element():
    assert [launcher.blocks(n, 32) for n in (0, 1, 32, 33)] == [0, 1, 1, 2]


def test_alignment_is_that_of_the_address():
    memory = np.zeros(64, np.float32)
    start = -memory.ctypes.data % 16 // 4
    assert launcher.is_aligned(memory[start:], memory[start + 4 :])
    assert not launcher.is_aligned(memory[start:], memory[start + 1 :])


def test_a_bool_is_0_or_1(tmp_path, launched):
    path = tmp_path / "flag.cu"
    path.write_text("KERNEL flag(u8* y, bool value) {}\n")
    for value in (True, 0, np.True_):
        launch(Source(path, [{}]), "flag", 1, 1, np.zeros(1, np.uint8), value)
        assert launched.pop().arguments[1].dtype == bool
    with pytest.raises(ValueError, match="flag: value is 2; a number from 0 to 1"):
        launch(Source(path, [{}]), "flag", 1, 1, np.zeros(1, np.uint8), 2)
