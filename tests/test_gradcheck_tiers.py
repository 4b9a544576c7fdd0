"""The checks at full size and of fast kernels: adjoint_check, compare_tiers, arrays on a GPU, and the command."""

import re

import numpy as np
import pytest
from op_folders import missing

import tinynet as tn
from tinynet.__main__ import main as tinynet_main
from tinynet.backends.devices import to_device
from tinynet.backends.registry import implementation_kernel, tier_module, use_kernels
from tinynet.errors import BackendError
from tinynet.learn.gradcheck import AdjointError, adjoint_check, compare_tiers, explain, gradcheck
from tinynet.learn.gradcheck import command as gradcheck_command

NEEDS_THE_EMULATOR = pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))


def randn(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# ---------------------------------------------------------------------------------------- the adjoint test
X, W, B = randn(2, 24, 16, 5), randn(3, 3, 5, 7, seed=1), randn(7, seed=2)


def conv(x, w, b):
    return tn.conv2d(x, w, b, padding=1)


def test_a_right_backward_is_the_transpose():
    results = adjoint_check(conv, (X, W, B))
    assert [r.name for r in results] == ["input 0 (x)", "input 1 (w)", "input 2 (b)"]
    assert all(r.dtype == "float32" and r.gap < 1e-7 for r in results)
    assert "right" in str(results[0])


def reference(name):
    return implementation_kernel("conv2d", name, "cpu")


def lost(array, axis):
    out = array.copy()
    np.moveaxis(out, axis, 0)[-1] = 0
    return out


# What is wrong: (kernel, its wrong version, which input, what is said of it).
NOT_TRANSPOSED = {
    "last row lost": ("backward_input", lambda g: lost(g, 1), 0, "along h all at [23], the last row"),
    "last column lost": ("backward_input", lambda g: lost(g, 2), 0, "along w all at [15], the last column"),
    "an image lost": ("backward_input", lambda g: lost(g, 0), 0, "along n all at [1], the last sample"),
    "flipped": ("backward_weight", lambda g: g[::-1, ::-1].copy(), 1, "along kh everywhere"),
    "scale off by 0.1 %": ("backward_weight", lambda g: g * np.float32(1.001), 1, "along kh everywhere"),
    "one channel doubled": (
        "backward_weight",
        lambda g: g * np.float32([1, 1, 2, 1, 1])[:, None],
        1,
        "along axis 2 all at [2]",
    ),
    "bias averaged": ("backward_bias", lambda g: g / np.float32(2), 2, "along axis 0 everywhere"),
}


@pytest.mark.parametrize("name", NOT_TRANSPOSED)
def test_a_wrong_backward_is_found_in_float32_and_its_slices_named(name):
    kernel, spoil, number, where = NOT_TRANSPOSED[name]
    right = reference(kernel)
    with use_kernels("conv2d", **{kernel: lambda *a: spoil(right(*a))}):
        with pytest.raises(AdjointError, match="backward is not the transpose of forward") as caught:
            adjoint_check(conv, (X, W, B))
        assert [bool(r) for r in caught.value.results] == [i != number for i in range(3)]
        assert where in str(caught.value)
        assert not all(adjoint_check(conv, (X, W, B), raise_error=False))


def test_only_linear_functions_have_a_transpose():
    x = randn(4, 5)
    with pytest.raises(ValueError, match="linear in none of its inputs"):
        adjoint_check(tn.elu, (x,))
    with pytest.raises(ValueError, match="linear in none"):
        adjoint_check(tn.relu, (x,))
    assert len(adjoint_check(lambda x, y: x * tn.exp(y), (x, x))) == 1
    assert len(adjoint_check(lambda x, i: x[i.data], (x, np.array([2, 0, 2])))) == 1  # integers are passed on


def test_zero_is_a_linear_function_too():
    assert adjoint_check(lambda x: x * 0, (randn(3),))
    with pytest.raises(AdjointError):

        class Zero(tn.Function):
            def forward(self, x):
                return 0 * x

            def backward(self, gy):
                return gy

        adjoint_check(Zero.apply, (randn(3),))


def test_dropout_keeps_its_mask():
    layer = tn.nn.Dropout(0.5)
    assert adjoint_check(layer, (randn(50, 40),))


# ---------------------------------------------------------------------------------------- tiers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_that_agree(dtype):
    found = compare_tiers("max_pool2d", "cpu", dtype=dtype)
    assert [c.kernel for c in found] == ["forward", "scatter", "gather"]
    assert all(found)
    assert all((c.op, c.tier, c.implementation, c.dtype) == ("max_pool2d", "cpu", "default", dtype) for c in found)
    assert all(0 <= c.error < c.allowed for c in found)
    assert re.search(r"max_pool2d.scatter \(cpu, default, .*: right in \d+ cases", str(found[1]))


def plant(monkeypatch, op, **kernels):
    """Give the CPU tier of an op another implementation, 'planted', with these kernels in place of its own."""
    module = tier_module(op, "cpu")
    table = getattr(module, "IMPLEMENTATIONS", {"default": {}})
    monkeypatch.setattr(module, "IMPLEMENTATIONS", {**table, "planted": kernels}, raising=False)
    implementation_kernel.cache_clear()


@pytest.fixture(autouse=True)
def _forget_planted_kernels():
    yield
    implementation_kernel.cache_clear()


def test_a_wrong_kernel_is_named_with_its_cases(monkeypatch):
    right = implementation_kernel("conv_transpose2d", "backward_weight", "reference")

    def first_image(x, gy, kernel_size, geometry):
        return right(x[:1], gy[:1], kernel_size, geometry).astype(x.dtype)

    plant(monkeypatch, "conv_transpose2d", backward_weight=first_image)
    found = {c.kernel: c for c in compare_tiers("conv_transpose2d", "cpu", "planted", dtype="float64")}
    assert [name for name, c in found.items() if not c] == ["backward_weight"]
    wrong = found["backward_weight"]
    assert 0 < len(wrong.wrong) < wrong.cases  # there are cases of one image
    assert "conv_transpose2d.backward_weight (cpu, planted, float64): wrong in" in str(wrong)
    assert "only the first sample of gy is used" in str(wrong)


def test_wrong_shapes_wrong_indices_and_nan_are_wrong(monkeypatch):
    right = implementation_kernel("elu", "forward", "reference")
    plant(
        monkeypatch,
        "elu",
        forward=lambda x, *, alpha: right(x, alpha=alpha)[..., :-1] if x.ndim > 1 else right(x, alpha=alpha),
    )
    forward = compare_tiers("elu", "cpu", "planted")[0]
    assert not forward and "is needed" in str(forward)

    plant(monkeypatch, "elu", forward=lambda x, *, alpha: x * np.float32(np.nan))
    assert "all entries are NaN" in str(compare_tiers("elu", "cpu", "planted")[0])

    right_pool = implementation_kernel("max_pool2d", "forward", "reference")

    def next_index(*arrays, **parameters):
        y, index = right_pool(*arrays, **parameters)
        return y, index + 1

    plant(monkeypatch, "max_pool2d", forward=next_index)
    assert not compare_tiers("max_pool2d", "cpu", "planted")[0]


def test_kernels_that_work_in_place_are_compared_in_what_they_change(monkeypatch):
    assert all(compare_tiers("adam", "cpu"))
    right = implementation_kernel("adam", "step", "cpu")

    def squares_left_alone(parameters, means, squares, gradients, t, settings):
        kept = [a.copy() for a in squares]
        right(parameters, means, squares, gradients, t, settings)
        for a, b in zip(squares, kept):
            a[...] = b

    plant(monkeypatch, "adam", step=squares_left_alone)
    assert not compare_tiers("adam", "cpu", "planted")[0]


@NEEDS_THE_EMULATOR
def test_cuda_kernels_on_the_emulator():
    assert all(compare_tiers("leaky_relu", "cuda-sim"))


def test_a_tier_that_is_missing_is_a_sentence():
    if missing("cuda") is None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match="without one, use backend 'cpu'"):
        compare_tiers("elu", "cuda")
    with pytest.raises(BackendError, match="without one, use backend 'cpu'"):
        tinynet_main(["gradcheck", "elu", "--tier", "cuda"])


# ---------------------------------------------------------------------------------------- on a GPU
@NEEDS_THE_EMULATOR
def test_arrays_on_a_gpu(fake_gpu):
    """gradcheck, adjoint_check and explain take them as they are, and the function sees them where they lie."""
    places = set()

    def leaky(x):
        places.add(x.device)
        return tn.leaky_relu(x, 0.2)

    x = randn(3, 4, dtype=np.float64)
    on_gpu = to_device(x, "cuda")
    assert gradcheck(leaky, (on_gpu,))
    assert places == {"cuda"}
    assert len(adjoint_check(lambda x: 3 * x, (to_device(x.astype(np.float32), "cuda"),))) == 1
    assert "exactly 2 times" in explain(to_device(2 * x, "cuda"), on_gpu).sentence


# ---------------------------------------------------------------------------------------- the command
def test_the_command_prints_a_table(capsys):
    rows = tinynet_main(["gradcheck", "dropout", "max_unpool2d", "adam"])
    table = capsys.readouterr().out
    assert {(row.op, row.what) for row in rows} >= {
        ("dropout", "derivative"),
        ("dropout", "forward"),
        ("dropout", "adjoint"),
        ("max_unpool2d", "backward"),
        ("adam", "step"),
    }
    assert all(row.accuracy <= row.allowed and not row.report for row in rows)
    assert f"all {len(rows)} right" in table
    assert re.search(r"dropout +forward +cpu +default +float32 +\d+ +\S+e-\d+ +\S+e-\d+ ok", table)


def test_of_the_reference_only_derivatives_are_checked(capsys):
    rows = tinynet_main(["gradcheck", "elu", "--tier", "reference", "--seed", "3"])
    assert [(row.what, row.tier, row.dtype) for row in rows] == [("derivative", "reference", "float64")]


def test_a_wrong_kernel_ends_the_command_with_1_and_a_report(monkeypatch, capsys, tmp_path):
    plant(monkeypatch, "leaky_relu", backward=lambda gy, *arrays, **parameters: 0.5 * gy)
    with pytest.raises(SystemExit) as ended:
        tinynet_main(["gradcheck", "leaky_relu", "--seed", "2"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "2 of" in said and "WRONG" in said  # float32 and float64
    assert "python -m tinynet gradcheck leaky_relu --tier cpu --seed 2" in said


def test_a_wrong_derivative_is_painted(monkeypatch, capsys, tmp_path):
    right = tier_module("tanh", "reference").backward.definition
    monkeypatch.setattr(tier_module("tanh", "reference"), "backward", lambda gy, y: 2 * right(gy, y))
    implementation_kernel.cache_clear()
    with pytest.raises(SystemExit):
        tinynet_main(["gradcheck", "tanh", "--tier", "reference", "--heat-map", str(tmp_path / "maps")])
    said = capsys.readouterr().out
    assert "it is exactly 2 times the right gradient" in said
    figures = list((tmp_path / "maps").iterdir())
    assert figures and all(str(p) in said and p.read_bytes()[:4] == b"\x89PNG" for p in figures)


def test_the_command_refuses_what_is_not_there():
    with pytest.raises(ValueError, match="there is no op elux; the ops are"):
        tinynet_main(["gradcheck", "elux"])
    with pytest.raises(ValueError, match="--seed is -1"):
        tinynet_main(["gradcheck", "elu", "--seed", "-1"])


def test_rooms_with_axes_exist():
    assert set(gradcheck_command.AXES) <= set(gradcheck_command.all_ops())
