"""Concatenations that are put off: nobody can tell, but for the copy that is not made."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.backends import memory
from tinynet.backends.registry import implementation_kernel, implementations
from tinynet.ops.concat import cpu
from tinynet.ops.concat import op as concat_op
from tinynet.ops.concat.joined import Joined
from tinynet.ops.conv_elu_dropout.op import can_fuse

fused = pytest.mark.skipif(not can_fuse(tn.tensor([0.0])), reason="without AVX2 nothing is fused")


@pytest.fixture(autouse=True)
def small_arrays_are_large(monkeypatch):
    """So that arrays of a few numbers are put off, too."""
    monkeypatch.setattr(memory, "SMALLEST", 1)


@pytest.fixture
def copies(monkeypatch):
    """The numbers of arrays that were copied together, in order, by the op and by the kernels of conv2d."""
    made, forward = [], cpu.forward

    def noted(*arrays, axis, out=None):
        made.append(len(arrays))
        return forward(*arrays, axis=axis, out=out)

    monkeypatch.setattr(cpu, "forward", noted)
    monkeypatch.setattr(concat_op, "forward", noted)
    return made


def parts(*channels, dtype=np.float32, requires_grad=True):
    rng = np.random.default_rng(5)
    arrays = (rng.standard_normal((2, 6, 7, c)).astype(dtype) for c in channels)
    return [tn.tensor(a, requires_grad=requires_grad) for a in arrays]


def at_once(tensors):
    """The same concatenation without delay."""
    return concat_op.Concat.apply(*tensors, axis=3)


def level(c_in, c_out=16, p=0.0, dtype=np.float32, groups=1):
    tn.seed(2)
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, groups=groups), nn.ELU(), nn.Dropout(p)).astype(dtype)


def compared(run, *channels, dtype=np.float32):
    """result and gradients of run(join, tensors), put off and at once; run returns a Tensor."""
    found = []
    for join in (lambda tensors: tn.concat(tensors, axis=3), at_once):
        tensors = parts(*channels, dtype=dtype)
        y = run(join, tensors)
        y.backward(np.random.default_rng(6).standard_normal(y.shape).astype(dtype))
        found.append([y.numpy(), *(t.grad.numpy() for t in tensors)])
    return found


def assert_same(found, tolerance=2e-6):
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(initial=0))


# ------------------------------------------------------------------------------------- what is put off
def test_it_looks_like_any_tensor_before_it_exists(copies):
    y = tn.concat(parts(16, 3), axis=-1)
    assert isinstance(y, Joined) and isinstance(y, tn.Tensor)
    assert (y.shape, y.ndim, y.dtype) == ((2, 6, 7, 19), 4, np.float32)
    assert not copies
    np.testing.assert_array_equal(y.numpy(), np.concatenate([p.numpy() for p in parts(16, 3)], axis=3))
    assert (y.shape, y.ndim, y.dtype, y.size, len(y)) == ((2, 6, 7, 19), 4, np.float32, 2 * 6 * 7 * 19, 2)
    assert copies == [2], "and it is copied once"


@pytest.mark.parametrize(
    ("arrays", "axis"),
    [
        ([parts(3)[0], np.ones((2, 6, 7, 3), np.float32)], 3),
        ([np.ones((2, 6, 7, 3), np.float32), parts(3)[0]], 3),
        (parts(3, 3), 2),
        ([tn.tensor(np.ones((2, 3), np.int64))] * 2, 1),
    ],
    ids=["array behind", "array in front", "another axis", "integers"],
)
def test_what_is_joined_at_once(arrays, axis):
    """A plain array could be changed by its owner, and nobody would know."""
    y = tn.concat(arrays, axis=axis)
    assert not isinstance(y, Joined)
    np.testing.assert_array_equal(np.asarray(y), np.concatenate([np.asarray(a) for a in arrays], axis))


def test_small_tensors_are_joined_at_once(monkeypatch):
    monkeypatch.setattr(memory, "SMALLEST", 10**6)
    assert not isinstance(tn.concat(parts(3, 3), axis=3), Joined)


def test_the_parts_are_let_go_once_they_are_copied():
    tensors = parts(3, 4, requires_grad=False)
    y, part = tn.concat(tensors, axis=3), weakref.ref(tensors[0])
    del tensors
    gc.collect()
    assert part() is not None
    y.numpy()
    gc.collect()
    assert part() is None


# ------------------------------------------------------------------------------------- the fused convolution
@fused
@pytest.mark.parametrize("channels", [(16, 16), (16, 5)])
def test_the_fused_convolution_makes_no_copy_forward_or_backward(copies, channels):
    model, tensors = level(sum(channels)), parts(*channels)
    model(tn.concat(tensors, axis=3)).sum().backward()
    assert copies == [2], "that of gw, whose input channels are joined along axis 2"
    gw, gx = model[0].weight.grad.numpy(), [t.grad.numpy() for t in tensors]
    found = compared(lambda join, tensors: level(sum(channels))(join(tensors)), *channels)
    assert_same(found)
    assert np.abs(gw).max() > 0 and all(np.abs(g).max() > 0 for g in gx)


@pytest.mark.parametrize("channels", [(16, 16), (5, 3), (16, 3, 13), (1, 16), (0, 16), (16, 0)])
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_a_convolution_of_parts_equals_that_of_the_whole(channels, p):
    def run(join, tensors):
        return level(sum(channels), p=p, dtype=tensors[0].dtype)(join(tensors))

    assert_same(compared(run, *channels))
    assert_same(compared(run, *channels, dtype=np.float64), 1e-14)


def test_groups_cut_across_the_parts_so_they_are_joined(copies):
    found = compared(lambda join, tensors: level(24, groups=2)(join(tensors)), 16, 8)
    assert 2 in copies
    assert_same(found)


def test_weights_get_the_same_gradients():
    found = []
    for join in (lambda tensors: tn.concat(tensors, axis=3), at_once):
        model = level(21, p=0.3)
        model(join(parts(16, 5))).sum().backward()
        found.append([parameter.grad.numpy() for parameter in model.parameters()])
    assert_same(found)


def test_second_derivatives_go_through_it():
    def of_gradient(join, tensors):
        y = level(5, 2, dtype=np.float64)(join(tensors))
        gradients = tn.grad((y * y).sum(), tensors, create_graph=True)
        return sum((g * g).sum() for g in gradients)

    assert_same(compared(of_gradient, 2, 3, dtype=np.float64), 1e-9)


# ------------------------------------------------------------------------------------- changes before its use
@pytest.mark.parametrize("use", [lambda y: y.numpy(), lambda y: level(7)(y), lambda y: tn.elu(y)])
@pytest.mark.parametrize("which", [0, 1])
def test_an_in_place_change_of_a_part_is_an_error(use, which):
    tensors = parts(3, 4, requires_grad=False)
    y = tn.concat(tensors, axis=3)
    tensors[which][0] = 1.0
    with pytest.raises(
        RuntimeError, match=r"concat: a part of the tensor of shape \(2, 6, 7, 7\) was changed in place"
    ):
        use(y)


def test_a_change_after_its_use_does_not_matter():
    tensors = parts(3, 4, requires_grad=False)
    y = tn.concat(tensors, axis=3)
    before = y.numpy().copy()
    tensors[0][...] = 1.0
    np.testing.assert_array_equal(y.numpy(), before)


def test_it_can_itself_be_changed_in_place():
    tensors = parts(3, 4, requires_grad=False)
    y = tn.concat(tensors, axis=3)
    y[..., 0] = 9.0
    assert (y.numpy()[..., 0] == 9).all() and not (tensors[0].numpy() == 9).any()


# ------------------------------------------------------------------------------------- the graph
@pytest.mark.parametrize("use", [lambda y: level(7)(y), lambda y: tn.elu(y)])
def test_history_ends_at_no_grad_wherever_it_is_used(use):
    tensors = parts(3, 4)
    with tn.no_grad():
        y = tn.concat(tensors, axis=3)
    z = use(y)
    if z.requires_grad:  # because of the weights
        z.sum().backward()
    assert all(t.grad is None for t in tensors)
    assert not y.requires_grad  # asked last: the question puts the parts together


@pytest.mark.parametrize("use", [lambda y: level(7).eval()(y), lambda y: tn.elu(y)])
def test_used_inside_no_grad_it_keeps_its_own_history(use):
    tensors = parts(3, 4)
    y = tn.concat(tensors, axis=3)
    with tn.no_grad():
        assert not use(y).requires_grad
    (2 * y).sum().backward()
    assert all((t.grad.numpy() == 2).all() for t in tensors)


def test_hooks_retain_grad_and_grad():
    def run(join, tensors):
        y = join(tensors)
        seen.append([])
        y.register_hook(lambda g: seen[-1].append(g.numpy()))
        y.register_hook(lambda g: 3 * g)
        kept.append(y.retain_grad())
        return level(7, p=0.2)(y)

    seen, kept = [], []
    assert_same(compared(run, 3, 4))
    assert [len(gradients) for gradients in seen] == [1, 1]
    assert_same([seen[0], seen[1]])
    assert_same([[y.grad.numpy()] for y in kept])
    np.testing.assert_allclose(kept[0].grad.numpy(), 3 * seen[0][0])


@pytest.mark.parametrize("order", ["convolution first", "convolution last"])
def test_a_convolution_and_another_op_use_it(order):
    def run(join, tensors):
        y = join(tensors)
        if order == "convolution first":
            z = level(21)(y)
            return z.sum() + (y * y).sum()
        z = (y * y).sum()
        return z + level(21)(y).sum()

    assert_same(compared(run, 16, 5))


def test_two_convolutions_use_it_and_one_of_its_parts():
    def run(join, tensors):
        y = join(tensors)
        return level(21)(y) + level(21, p=0.3)(y) + level(16)(tensors[0])

    assert_same(compared(run, 16, 5))


@pytest.mark.parametrize("inner_first", [True, False])
def test_a_concatenation_of_concatenations(inner_first):
    def run(join, tensors):
        inner = join(tensors[:2])
        if inner_first:
            inner.numpy()
        return level(40)(join([inner, tensors[2]]))

    assert_same(compared(run, 16, 8, 16))


def test_one_part_twice():
    assert_same(compared(lambda join, tensors: level(32)(join([tensors[0], tensors[0]])), 16))


def test_backward_twice_says_so():
    y = level(7)(tn.concat(parts(3, 4), axis=3)).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        y.backward()


def test_only_one_part_needs_a_gradient():
    for which in (0, 1):
        for join in (lambda tensors: tn.concat(tensors, axis=3), at_once):
            tensors = parts(16, 5, requires_grad=False)
            tensors[which].requires_grad_()
            level(21)(join(tensors)).sum().backward()
            assert tensors[which].grad is not None and tensors[1 - which].grad is None


# ------------------------------------------------------------------------------------- swapped kernels
def test_a_students_kernel_runs_when_concat_is_called():
    calls = []

    def mine(*arrays, axis, out=None):
        calls.append(axis)
        return 0 * np.concatenate(arrays, axis)

    with tn.use_kernels("concat", forward=mine):
        y = tn.concat(parts(16, 16), axis=3)
        assert calls == [3], "nothing is put off"
    assert not level(32)(y).numpy().any(), "ELU of a bias of zero"


@pytest.mark.parametrize("name", implementations("conv2d", "cpu"))
def test_every_implementation_of_conv2d_takes_it(name):
    with tn.use_kernels("conv2d", name):
        assert_same(compared(lambda join, tensors: level(21)(join(tensors)), 16, 5), 2e-5)


def test_the_reference_takes_it():
    with tn.use_backend("reference"):
        assert_same(compared(lambda join, tensors: level(7, 3, p=0.2)(join(tensors)), 3, 4))


def test_an_observed_net_gets_it_too():
    seen = []
    with nn.observe(lambda module, inputs, output: seen.append(inputs[0].shape)):
        level(7)(tn.concat(parts(3, 4), axis=3))
    assert seen[0] == (2, 6, 7, 7)


def test_what_is_not_finite_in_a_part_passes_as_in_the_whole():
    """Winograd finds that its result is not finite and lets another implementation compute it: of the parts, too."""
    results = []
    for join in (lambda tensors: tn.concat(tensors, axis=3), at_once):
        tensors = parts(16, 16, requires_grad=False)
        tensors[1].data[1, 2, 3, 4] = np.inf
        results.append(level(32)(join(tensors)).numpy())
    np.testing.assert_array_equal(*results)
    assert not np.isfinite(results[0][1]).all() and np.isfinite(results[0][0]).all()


def test_the_case_tables_forward_is_that_of_the_whole():
    """The kernel itself, where a tuple stands for the channels of x."""
    arrays = tuple(p.numpy() for p in parts(16, 5))
    w = np.random.default_rng(8).standard_normal((3, 3, 21, 16)).astype(np.float32)
    for name in implementations("conv_elu_dropout", "cpu"):
        forward = implementation_kernel("conv_elu_dropout", "forward", "cpu", name)
        whole = forward(np.concatenate(arrays, 3), w, padding=(1, 1))
        np.testing.assert_allclose(forward(arrays, w, padding=(1, 1)), whole, rtol=0, atol=2e-6 * np.abs(whole).max())
