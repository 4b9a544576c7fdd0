"""Functions composed of other operations: beside definitions in NumPy, in special cases, with bad input.

Layers are checked against differences in test_nn_gradients.py, functions here.
"""

from __future__ import annotations

import numpy as np
import pytest
from op_folders import missing

import tinynet as tn
from tinynet import nn
from tinynet.backends.devices import to_device
from tinynet.learn.gradcheck import gradcheck, gradgradcheck


def rng(seed=0):
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------- prelu
def test_prelu_has_a_slope_for_each_channel_or_one():
    x = rng().normal(size=(2, 3, 4)).astype(np.float32)
    for slope in (np.array([0.1, 0, -2, 1]), np.array([0.3]), np.array(0.3)):
        y = tn.prelu(x, slope.astype(np.float32))
        np.testing.assert_allclose(y, np.where(x > 0, x, slope * x), rtol=1e-6)
        assert y.dtype == np.float32
    a, slope = tn.tensor([[-2.0, 3.0], [-1.0, -5.0]], requires_grad=True), tn.tensor([0.5, 0.25], requires_grad=True)
    tn.prelu(a, slope).backward(np.float32([[1, 10], [100, 1000]]))
    assert a.grad.tolist() == [[0.5, 10], [50, 250]] and slope.grad.tolist() == [-102, -5000]


def test_the_layer_starts_with_a_quarter():
    layer = nn.PReLU(3)
    assert layer.slope.tolist() == [0.25] * 3 and nn.PReLU(slope=0.5).slope.tolist() == [0.5]
    assert layer(tn.tensor([[-4.0, 4.0, -8.0]])).tolist() == [[-1, 4, -2]]


def test_prelu_keeps_nan():
    x = np.array([np.nan, -1, 1], np.float32)
    assert np.isnan(tn.prelu(x, np.ones(1, np.float32))).tolist() == [True, False, False]


@pytest.mark.parametrize("slope", [np.array([0.1, 1.5, -1.0]), np.array([0.3]), np.array(0.3)])
def test_second_derivatives_of_prelu(slope):
    gradgradcheck(tn.prelu, [rng().permutation(np.arange(-3, 3) + 0.5).reshape(2, 3), slope])


# ------------------------------------------------------------------------------------- group_norm
def group_norm_by_loops(x, groups, eps=1e-5):
    y = np.empty_like(x)
    for image, out in zip(x, y):
        width = x.shape[-1] // groups
        for first in range(0, x.shape[-1], width):
            values = image[..., first : first + width]
            out[..., first : first + width] = (values - values.mean()) / np.sqrt(values.var() + eps)
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 5, 3, 6), 3), ((3, 2, 4, 3, 6), 6), ((1, 3, 4, 4), 1), ((1, 4, 5, 8), 8), ((4, 6), 2), ((2, 1, 1, 4), 2)],
)
def test_group_norm_by_its_definition(shape, groups, dtype):
    x = (rng().normal(size=shape) * 3 + 2).astype(dtype)
    gamma, beta = rng(1).normal(size=(2, shape[-1])).astype(dtype)
    normal = group_norm_by_loops(x.astype(np.float64), groups)
    tolerance = 1e-12 if dtype == np.float64 else 3e-6
    for layout in (x, np.asfortranarray(x)):
        y = tn.group_norm(layout, gamma, beta, groups=groups)
        np.testing.assert_allclose(y, normal * gamma + beta, rtol=tolerance, atol=tolerance)
        assert y.dtype == dtype
    y = tn.group_norm(x, None, beta, groups=np.int64(groups))  # as an element of an array
    np.testing.assert_allclose(y, normal + beta, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("groups", "shape"), [(1, (2, 3, 4)), (2, (2, 3, 4)), (4, (2, 3, 4)), (3, (1, 2, 2, 1, 3))])
def test_derivatives_of_group_norm(groups, shape):
    values = [rng().normal(size=shape), *rng(1).normal(size=(2, shape[-1]))]
    gradcheck(lambda x, gamma, beta: tn.group_norm(x, gamma, beta, groups=groups), values)
    gradgradcheck(lambda x, gamma: tn.group_norm(x, gamma, groups=groups), values[:2])


def test_images_do_not_influence_each_other():
    x = rng().normal(size=(3, 4, 4, 6)).astype(np.float32)
    layer = nn.GroupNorm(3, 6)
    alone = layer(tn.tensor(x[1:2])).numpy()
    x[0] = np.nan
    y = layer(tn.tensor(x)).numpy()
    assert np.isnan(y[0]).all() and not np.isnan(y[1:]).any()
    np.testing.assert_allclose(y[1:2], alone, rtol=1e-6, atol=1e-6)
    x[1, 0, 0, 2] = np.nan  # the second of three groups: channels 2 and 3
    assert (
        np.isnan(layer.eval()(tn.tensor(x)).numpy()[1]).any((0, 1)).tolist() == [False] * 2 + [True] * 2 + [False] * 2
    )


@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_nothing_leaves_the_gpu(groups, fake_gpu):
    x, gamma = rng().normal(size=(2, 3, 5, 4)).astype(np.float32), np.float32([1, 2, -1, 0.5])
    a, b = (tn.Tensor(to_device(values, "cuda"), requires_grad=True) for values in (x, gamma))
    fake_gpu.forget()
    y = tn.prelu(tn.group_norm(a, b, groups=groups), b)
    y.backward(to_device(np.ones(y.shape, np.float32), "cuda"))
    assert y.device == a.grad.device == b.grad.device == "cuda" and fake_gpu.to_cpu == []
    expected = tn.prelu(tn.group_norm(x, gamma, groups=groups), gamma)
    np.testing.assert_allclose(y.to("cpu").numpy(), expected, rtol=1e-5, atol=1e-5)


def test_layer_and_instance_norm_are_special_cases():
    x = rng().normal(size=(2, 3, 5, 4))
    np.testing.assert_allclose(
        tn.group_norm(x[0], groups=1), nn.LayerNorm((5, 4)).astype(np.float64)(tn.tensor(x[0])).numpy(), rtol=1e-10
    )
    instance = nn.InstanceNorm(4)
    assert list(instance.parameters()) == [] and len(list(nn.InstanceNorm(4, affine=True).parameters())) == 2
    np.testing.assert_array_equal(instance(tn.tensor(x)).numpy(), tn.group_norm(x, groups=4))
    by_eps = nn.GroupNorm(2, 4, eps=3.0, affine=False)(tn.tensor(x)).numpy()
    np.testing.assert_allclose(by_eps, group_norm_by_loops(x, 2, eps=3.0), rtol=1e-12)


# ------------------------------------------------------------------------------------- bad input
X = np.ones((2, 6, 4), np.float32)
FOUR = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: tn.prelu(X, FOUR[:3]), "slope has shape (3,); x (2, 6, 4) needs one slope for each channel"),
        (lambda: tn.prelu(X, X), "slope has shape (2, 6, 4)"),
        (lambda: nn.PReLU(0), "PReLU: channels is 0"),
        (lambda: nn.SmoothL1Loss(beta=-1), "SmoothL1Loss: beta is -1; it must be positive"),
        (lambda: tn.group_norm(X, groups=3), "groups is 3; a divisor of the 4 channels of x (2, 6, 4) is needed"),
        (lambda: tn.group_norm(X, groups=0), "groups is 0"),
        (lambda: tn.group_norm(X, groups=2.0), "groups is 2.0"),
        (lambda: tn.group_norm(X[:, 0], groups=4), "has one value in each of 4 groups; a variance needs two"),
        (lambda: tn.group_norm(FOUR, groups=1), "x has shape (4,); (N, ..., C)"),
        (lambda: tn.group_norm(X[:0], groups=1), "x has shape (0, 6, 4)"),
        (lambda: tn.group_norm(X, groups=2, eps=0), "group_norm: eps is 0; it must be positive"),
        (lambda: nn.GroupNorm(3, 4), "GroupNorm: 4 channels in, 4 out and 3 groups"),
        (lambda: nn.InstanceNorm(3)(tn.tensor(X)), "InstanceNorm: x has shape (2, 6, 4); 3 channels on the last axis"),
    ],
)
def test_error_sentences(call, sentence):
    with pytest.raises(ValueError) as caught:
        call()
    assert sentence in str(caught.value)
