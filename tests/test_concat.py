"""Several inputs whose channels follow each other: conv2d reads them where they are, as if they were one array."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.learn.gradcheck import gradcheck, gradgradcheck
from tinynet.ops.concat import op as concat_op


def parts(*channels, dtype=np.float32, requires_grad=True):
    rng = np.random.default_rng(5)
    arrays = (rng.standard_normal((2, 6, 7, c)).astype(dtype) for c in channels)
    return [tn.tensor(a, requires_grad=requires_grad) for a in arrays]


def level(c_in, c_out=16, p=0.0, dtype=np.float32, groups=1):
    """A convolution, ELU and dropout, which run fused."""
    tn.seed(1)
    net = nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, groups=groups), nn.ELU(), nn.Dropout(p))
    for parameter in net.parameters():
        parameter.data = parameter.data.astype(dtype)
    return net


def result_and_gradients(run, inputs, parameters):
    """y, then the gradients of the inputs and of the parameters, for a random gradient of y."""
    for t in (*inputs, *parameters):
        t.grad = None
    y = run(inputs)
    y.backward(np.random.default_rng(2).standard_normal(y.shape).astype(y.dtype))
    return [y.data, *(t.grad.data for t in (*inputs, *parameters))]


@pytest.fixture
def copies(monkeypatch):
    """How many arrays each run of the concat kernel or of np.concatenate joined along the channels."""
    made, forward, concatenate = [], concat_op.forward, np.concatenate
    monkeypatch.setattr(concat_op, "forward", lambda *a, axis: made.append(len(a)) or forward(*a, axis=axis))

    def noted(arrays, axis=0, **options):
        if axis == 3:
            made.append(len(arrays))
        return concatenate(arrays, axis=axis, **options)

    monkeypatch.setattr(np, "concatenate", noted)
    return made


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("channels", [(16, 16), (16, 5), (7, 16), (3, 2), (16, 8, 16), (32,)])
def test_a_convolution_of_parts_equals_that_of_the_whole(channels, p):
    net, inputs = level(sum(channels), p=p), parts(*channels)
    with tn.random.frozen():
        actual = result_and_gradients(net, inputs, net.parameters())
        expected = result_and_gradients(lambda x: net(tn.concat(x, axis=3)), inputs, net.parameters())
    for a, e in zip(actual, expected):
        np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-6 * np.abs(e).max())


@pytest.mark.parametrize("name", ["naive", "blocked", "winograd2", "winograd4"])
def test_every_version_takes_parts(name):
    net, inputs = level(32, p=0.2, dtype=np.float64), parts(16, 16, dtype=np.float64)
    with tn.random.frozen():
        expected = net(tn.concat(inputs, axis=3)).data
        with tn.use_kernels("conv2d", name):
            np.testing.assert_allclose(net(inputs).data, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_the_fused_convolution_makes_no_copy_forward_or_backward(copies):
    net, inputs = level(32), parts(16, 16)
    result_and_gradients(net, inputs, net.parameters())
    assert copies == []


def test_groups_cut_across_the_parts_so_they_are_joined(copies):
    net, inputs = level(6, c_out=4, groups=2), parts(2, 4)
    actual = result_and_gradients(net, inputs, net.parameters())
    expected = result_and_gradients(lambda x: net(tn.concat(x, axis=3)), inputs, net.parameters())
    assert copies
    for a, e in zip(actual, expected):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


def test_derivatives_of_parts():
    x, y = (t.data for t in parts(2, 1, dtype=np.float64))
    w = np.random.default_rng(3).standard_normal((3, 3, 3, 2))
    gradcheck(lambda x, y, w: tn.conv2d([x, y], w, padding=1), (x, y, w))
    gradgradcheck(lambda x, y, w: tn.conv2d((x, y), w, stride=2), (x, y, w), mode="directions")


def test_one_part_twice_and_one_without_a_gradient():
    (x, y), w = parts(2, 3, dtype=np.float64), tn.tensor(np.ones((1, 1, 7, 1)))
    y.requires_grad_(False)
    tn.conv2d([x, y, x], w).sum().backward()
    np.testing.assert_array_equal(x.grad.data, np.full(x.shape, 2.0))
    assert y.grad is None


def test_a_change_of_a_part_before_backward_is_an_error():
    inputs, net = parts(16, 16), level(32)
    y = net(inputs)
    with tn.no_grad():
        inputs[1][...] = 0
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([], ValueError, "conv2d: x is an empty list"),
        (
            [np.ones((1, 4, 4, 2)), np.ones((1, 4, 5, 2))],
            ValueError,
            "may differ in channels only",
        ),
        ([np.ones((1, 4, 4, 2)), np.ones((4, 4, 2))], ValueError, r"x\[1\] has shape \(4, 4, 2\); 4 axes"),
        ([np.ones((1, 4, 4, 2)), np.ones((1, 4, 4, 2), np.float32)], TypeError, "all must have one dtype"),
        ([np.ones((1, 4, 4, 2)), np.ones((1, 4, 4, 1))], ValueError, "expects 4 input channels"),
        ([np.ones((1, 4, 4, 2)), "image"], TypeError, r"x\[1\] is a str"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(inputs, error, message):
    with pytest.raises(error, match=message):
        tn.conv2d(inputs, np.ones((3, 3, 4, 1)))
