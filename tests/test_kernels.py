"""The registry: which kernel runs, inside and outside of the `with` blocks, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
from op_folders import missing
from processes import python

import tinynet as tn
from tinynet.backends.devices import to_device
from tinynet.backends.registry import (
    implementation_in_use,
    implementations,
    kernel_names,
    kernel_to_run,
    ops,
    tier_module,
)
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.conv2d import cpu, reference

needs_compiler = pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
RNG = np.random.default_rng(3)
X = RNG.standard_normal((2, 5, 6, 3))
W1, W2 = RNG.standard_normal((3, 3, 3, 4)), RNG.standard_normal((3, 3, 4, 2))


def net(weights):
    """Two convolutions with an ELU between them: a loss."""
    w1, w2 = weights
    y = tn.conv2d(tn.elu(tn.conv2d(tn.tensor(X), w1, padding=1)), w2, padding=1)
    return (y * y).sum()


def weights():
    return tn.tensor(W1, requires_grad=True), tn.tensor(W2, requires_grad=True)


def loss_and_gradients():
    ws = weights()
    loss = net(ws)
    loss.backward()
    return loss.item(), ws[0].grad.numpy(), ws[1].grad.numpy()


def doubled(function):
    return lambda *arrays, **parameters: 2 * function(*arrays, **parameters)


# ------------------------------------------------------------------------------------- use_kernels
def test_a_kernel_is_swapped_in_every_layer_of_the_net_and_put_back():
    expected = net(weights()).item()
    with tn.use_kernels("conv2d", forward=lambda *arguments: 0 * reference.forward(*arguments)):
        assert net(weights()).item() == 0
    assert net(weights()).item() == expected


@pytest.mark.parametrize(
    ("kernel", "factors"),
    [
        ("backward_weight", (2, 2)),
        ("backward_input", (2, 1)),  # it reaches only the layers below
    ],
)
def test_a_backward_kernel_is_swapped_where_backward_runs(kernel, factors):
    loss, *gradients = loss_and_gradients()
    with tn.use_kernels("conv2d", **{kernel: doubled(getattr(reference, kernel))}):
        swapped_loss, *swapped = loss_and_gradients()
    assert swapped_loss == loss
    for actual, gradient, factor in zip(swapped, gradients, factors):
        np.testing.assert_allclose(actual, factor * gradient, rtol=1e-10)


def test_kernels_are_looked_up_when_they_are_called_so_the_block_must_surround_backward():
    _, expected, _ = loss_and_gradients()
    ws = weights()
    with tn.use_kernels("conv2d", backward_weight=doubled(reference.backward_weight)):
        loss = net(ws)
    loss.backward()
    np.testing.assert_array_equal(ws[0].grad.numpy(), expected)


def test_swapped_kernels_get_plain_arrays_a_size_and_a_geometry():
    seen = []

    def spy(x, gy, kernel_size, geometry):
        seen.append((type(x), type(gy), kernel_size, type(geometry)))
        return reference.backward_weight(x, gy, kernel_size, geometry)

    with tn.use_kernels("conv2d", backward_weight=spy):
        loss_and_gradients()
    assert seen == [(np.ndarray, np.ndarray, (3, 3), Geometry)] * 2


def test_a_named_implementation_and_the_kernels_that_it_lacks():
    assert "naive" in implementations("conv2d", "cpu")
    with tn.use_kernels("conv2d", "naive"):
        assert kernel_to_run("conv2d", "forward") is cpu.IMPLEMENTATIONS["naive"]["forward"]
        assert kernel_to_run("conv2d", "backward_bias") is cpu.backward_bias
        defined = net(weights()).item()
    assert kernel_to_run("conv2d", "forward") is cpu.forward
    assert defined == pytest.approx(net(weights()).item(), rel=1e-10)


def test_blocks_nest_and_the_innermost_wins():
    def one():
        pass

    def two():
        pass

    with tn.use_kernels("conv2d", forward=one, backward_bias=one):
        with tn.use_kernels("conv2d", forward=two), tn.use_kernels("elu", forward=one):
            assert kernel_to_run("conv2d", "forward") is two
            assert kernel_to_run("conv2d", "backward_bias") is one, "a kernel that the inner block does not name stays"
            assert kernel_to_run("elu", "forward") is one
        assert kernel_to_run("conv2d", "forward") is one
        assert kernel_to_run("elu", "forward") is not one
        with tn.use_kernels("conv2d", "naive"):
            assert kernel_to_run("conv2d", "forward") is one, "a function has precedence over an implementation"
    assert kernel_to_run("conv2d", "forward") is cpu.forward


def test_an_exception_puts_everything_back():
    with pytest.raises(ZeroDivisionError), tn.use_backend("reference"), tn.use_kernels("conv2d", forward=doubled):
        raise ZeroDivisionError
    assert tn.backend() == "cpu"
    assert kernel_to_run("conv2d", "forward") is cpu.forward


def test_an_override_has_precedence_over_the_backend():
    with tn.use_kernels("conv2d", forward=doubled), tn.use_backend("reference"):
        assert kernel_to_run("conv2d", "forward") is doubled
        assert kernel_to_run("conv2d", "backward_weight") is reference.backward_weight.definition


# ------------------------------------------------------------------------------------- use_backend
def test_the_backend_decides_for_every_op():
    with tn.use_backend("reference"):
        assert tn.backend() == "reference"
        for op in ops():
            for name in kernel_names(op):
                assert kernel_to_run(op, name) is getattr(tier_module(op, "reference"), name).definition
        slow = loss_and_gradients()
        with tn.use_backend("cpu"):
            assert kernel_to_run("conv2d", "forward") is cpu.forward
        assert tn.backend() == "reference"
    for a, b in zip(slow, loss_and_gradients()):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@needs_compiler
def test_the_precision_chooses_tensor_cores_where_an_op_has_them():
    with tn.use_backend("cuda-sim", precision="tf32"):
        assert implementation_in_use("conv2d", "cuda-sim") == "tf32"
        assert implementation_in_use("elu", "cuda-sim") == "default"
        with tn.use_kernels("conv2d", "naive"):
            assert implementation_in_use("conv2d", "cuda-sim") == "naive", (
                "a named implementation has precedence over the precision"
            )
        with tn.use_backend("cuda-sim"):
            assert implementation_in_use("conv2d", "cuda-sim") == "blocked"
    assert implementation_in_use("conv2d", "cuda-sim") == "blocked"


@needs_compiler
def test_arrays_on_a_gpu_run_there_whatever_the_backend(fake_gpu):
    x = tn.tensor(X).to("cuda")
    for backend in ("cpu", "reference", "cuda"):
        fake_gpu.forget()
        with tn.use_backend(backend):
            assert tn.elu(x).device == "cuda" and fake_gpu.launches == ["elu_forward"]
            assert tn.device() == ("cuda" if backend == "cuda" else "cpu")
    fake_gpu.forget()
    with tn.use_kernels("elu", forward=lambda x, *, alpha: x):
        tn.elu(x)
    assert not fake_gpu.launches, "an override has precedence over the device"
    with tn.use_kernels("conv2d", "tiled"):  # the CPU has none of that name
        assert implementation_in_use("conv2d", "cuda") == "tiled"


# ------------------------------------------------------------------------------------- what does not exist
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tn.use_kernels("conv3", forward=abs), ValueError, ["no op 'conv3'", "conv2d", "elu"]),
        (
            lambda: tn.use_kernels("conv2d", backward=abs),
            ValueError,
            ["conv2d has no kernel backward", "forward, backward_input, backward_weight, backward_bias"],
        ),
        (
            lambda: tn.use_kernels("conv2d", "fastest"),
            ValueError,
            ["conv2d has no implementation 'fastest' in tier 'cpu'", "naive"],
        ),
        (lambda: tn.use_backend("gpu"), ValueError, ["no backend 'gpu'", "cpu", "reference"]),
        (
            lambda: tn.use_backend("cuda-sim", precision="half"),
            ValueError,
            ["precision is 'half'", "float32, tf32"],
        ),
        (
            lambda: tn.use_backend("cpu", precision="tf32"),
            ValueError,
            ["precision 'tf32' is for the backends cuda and cuda-sim, not for 'cpu'"],
        ),
        (lambda: to_device(X, "tpu"), ValueError, ["no device 'tpu'", "'cpu'", "'cuda'"]),
    ],
)
def test_unknown_names_list_what_there_is(call, error, words):
    with pytest.raises(error) as caught:
        block = call()
        with block:
            pass
    for word in words:
        assert word in str(caught.value)


def test_the_names_of_an_op_are_the_public_functions_of_its_reference():
    assert kernel_names("conv2d") == ["forward", "backward_input", "backward_weight", "backward_bias"]
    assert kernel_names("max_pool2d") == ["forward", "scatter", "gather"]
    assert {"conv2d", "conv_transpose2d", "elu", "max_pool2d", "max_unpool2d"} <= set(ops())


# ------------------------------------------------------------------------------------- in a process of its own
def test_importing_the_package_and_choosing_a_backend_loads_nothing_heavy():
    heavy = "{'numba', 'scipy', 'skimage', 'matplotlib', 'cupy', 'torch', 'pooch', 'tqdm'}"
    code = f"import sys, tinynet as tn; tn.use_backend('reference'); print(sorted({heavy} & set(sys.modules)))"
    assert python(code) == "[]"


def test_the_reference_runs_without_numba_and_the_cpu_tier_says_what_is_missing():
    code = """
import sys
sys.modules["numba"] = None
import numpy as np, tinynet as tn
x, w = np.ones((1, 3, 3, 1)), np.ones((3, 3, 1, 1))
with tn.use_backend("reference"):
    print(tn.conv2d(x, w).item())
try:
    tn.conv2d(x, w)
except RuntimeError as error:
    print(error)
"""
    assert python(code).splitlines() == [
        "9.0",
        "backend 'cpu' needs Numba: `pip install numba`, or use_backend('reference')",
    ]


def test_another_missing_module_is_not_taken_for_numba():
    code = """
import sys
sys.modules["numba"] = None
import tinynet.ops
import tinynet.kernels as kernels
kernels.TIERS["new"] = "a_tier_without_a_file"
try:
    kernels.tier_module("conv2d", "new")
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert python(code) == "tinynet.ops.conv2d.a_tier_without_a_file"


def test_an_op_that_is_asked_for_before_the_operations_are_imported_gets_a_sentence():
    code = """
from tinynet.kernels import implementations
try:
    implementations("conv2d", "cpu")
except ValueError as error:
    print(error)
import tinynet.ops
print("naive" in implementations("conv2d", "cpu"))
"""
    sentence = "the op 'conv2d' cannot be found before `import tinynet.ops`, which registers the operations"
    assert python(code).splitlines() == [sentence, "True"]
