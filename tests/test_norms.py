"""batch_norm, local_response_norm and avg_pool2d beside their definitions: outside implementations, layers, bad input.

That every tier agrees with the reference and that derivatives agree with differences is in test_ops.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_ops import cases_of

import tinynet as tn
from tinynet import nn
from tinynet.learn.gradcheck import GradientError, gradcheck
from tinynet.ops.batch_norm import cpu, reference

RNG = np.random.default_rng(3)


# ------------------------------------------------------------------------------------- batch_norm
def test_every_channel_gets_mean_0_and_variance_1():
    x = (RNG.standard_normal((4, 6, 5, 3)) * [1, 5, 0.1] + [0, 100, -3]).astype(np.float32)
    y, mean, var = tn.batch_norm(x, np.ones(3, "f"), np.zeros(3, "f"), eps=1e-9, return_statistics=True)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1, rtol=1e-4)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2), dtype=np.float64), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var, x.var((0, 1, 2), dtype=np.float64), rtol=1e-5)


@pytest.mark.parametrize("tier", [reference, cpu], ids=["reference", "cpu"])
def test_a_mean_that_is_large_against_the_spread_costs_no_digits(tier):
    x = np.where(np.arange(10000) % 2, 10001, 10000).astype(np.float32)[:, None]
    mean, var = tier.statistics(x)
    assert (mean[0], var[0]) == (10000.5, 0.25)


def test_in_use_a_sample_does_not_depend_on_its_company():
    tn.seed(0)
    layer = nn.BatchNorm2d(3, momentum=0.2)
    x = (RNG.standard_normal((8, 4, 4, 3)) * 3 + 2).astype(np.float32)
    for _ in range(60):
        layer(tn.tensor(x))
    layer.eval()
    before = layer.running_mean.copy()
    np.testing.assert_array_equal(layer(tn.tensor(x[:1])).numpy(), layer(tn.tensor(x)).numpy()[:1])
    np.testing.assert_array_equal(layer.running_mean, before)
    np.testing.assert_allclose(layer.running_mean, x.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(layer.running_var, x.var((0, 1, 2), ddof=1), rtol=1e-4)


def test_running_statistics_are_saved_with_the_model():
    layer, other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    layer(tn.tensor(RNG.standard_normal((4, 3, 3, 2)).astype(np.float32)))
    assert set(layer.state_dict()) == {"gamma", "beta", "running_mean", "running_var"}
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other.running_var, layer.running_var)
    assert not np.array_equal(other.running_var, np.ones(2))


def test_the_gradient_has_nothing_along_a_shift_and_a_scaling_of_x():
    """y does not change when all x of a channel are shifted or scaled: gx is at right angles to both."""
    x = tn.tensor(RNG.standard_normal((20, 2)), requires_grad=True)
    y = tn.batch_norm(x, np.array([1.0, 2.0]), np.zeros(2), eps=1e-12)
    gx = tn.grad(y, x, RNG.standard_normal((20, 2))).numpy()
    centered = x.numpy() - x.numpy().mean(0)
    np.testing.assert_allclose(gx.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose((gx * centered).sum(0), 0, atol=1e-10)


@pytest.mark.parametrize("left_out", ["mean", "variance"])
def test_a_gradient_without_one_of_the_two_sums_is_caught(left_out):
    def wrong(gy, x, mean, var, gamma, parameters, eps):
        ggamma, gbeta = parameters
        parameters = (ggamma, 0 * gbeta) if left_out == "mean" else (0 * ggamma, gbeta)
        return reference.backward_input(gy, x, mean, var, gamma, parameters, eps)

    case = cases_of("batch_norm", large=False)[0]
    with tn.use_kernels("batch_norm", backward_input=wrong), pytest.raises(GradientError):
        gradcheck(case.function, case.inputs)


# ------------------------------------------------------------------------------------- the two others
def test_local_response_norm_as_published():
    """The example of the derivation: n = 3, k = 1, alpha = 1, beta = 1."""
    y = tn.local_response_norm(np.array([1.0, 2.0, 0.0, 3.0]), 3, k=1, alpha=1, beta=1)
    np.testing.assert_allclose(y, [1 / 6, 1 / 3, 0, 3 / 10])


def test_alexnets_numbers_are_the_default():
    x = RNG.standard_normal((2, 3, 3, 7))
    squares = sum(np.pad(x**2, ((0, 0),) * 3 + ((2, 2),))[..., d : d + 7] for d in range(5))
    np.testing.assert_allclose(tn.local_response_norm(x), x / (2 + 1e-4 * squares) ** 0.75, rtol=1e-12)
    np.testing.assert_array_equal(nn.LocalResponseNorm()(tn.tensor(x)).numpy(), tn.local_response_norm(x))


def test_padding_counts_in_the_mean():
    x = np.array([[1, 5, 2], [4, 0, 2], [0, 0, 1]], dtype=np.float64)[None, :, :, None]
    np.testing.assert_allclose(tn.avg_pool2d(x, 2, padding=1)[0, :, :, 0], [[0.25, 1.75], [1, 0.75]])
    np.testing.assert_allclose(tn.avg_pool2d(x, 2)[0, :, :, 0], [[2.5]])


def test_the_mean_over_the_whole_image():
    x = RNG.standard_normal((2, 5, 3, 4))
    y = nn.GlobalAvgPool2d()(tn.tensor(x)).numpy()
    np.testing.assert_allclose(y, tn.avg_pool2d(x, (5, 3))[:, 0, 0], rtol=1e-12)


# ------------------------------------------------------------------------------------- bad input
X = np.ones((2, 6, 8, 3), np.float32)
THREE = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: tn.batch_norm(X[0, 0, 0], THREE, THREE), ValueError, "x has shape (3,); at least 2 axes"),
        (lambda: tn.batch_norm(X, THREE[:2], THREE), ValueError, "gamma has shape (2,); x (2, 6, 8, 3) needs one"),
        (lambda: tn.batch_norm(X[:1, 0, 0], THREE, THREE), ValueError, "has one value for each channel or none"),
        (lambda: tn.batch_norm(X, THREE, THREE, THREE), ValueError, "only one of mean and var is given"),
        (lambda: tn.batch_norm(X, THREE, THREE, eps=0), ValueError, "eps is 0; it must be positive"),
        (lambda: tn.batch_norm(X.astype(np.float64), THREE, THREE), TypeError, "x is float64, gamma is float32"),
        (lambda: nn.BatchNorm2d(3, momentum=0), ValueError, "momentum is 0; it must lie in 0 < momentum <= 1"),
        (lambda: tn.local_response_norm(X, 4), ValueError, "size is 4; an odd number of channels is needed"),
        (lambda: tn.local_response_norm(X, 2.5), TypeError, "size is 2.5; an integer is needed"),
        (lambda: tn.local_response_norm(X, k=0), ValueError, "k is 0, alpha is 0.0001; k > 0 and alpha >= 0"),
        (lambda: tn.avg_pool2d(X, 7), ValueError, "avg_pool2d: size (7, 7) is larger than x (2, 6, 8, 3)"),
        (lambda: tn.avg_pool2d(X, 2, padding=2), ValueError, "padding (2, 2) must be less than size (2, 2)"),
        (lambda: nn.GlobalAvgPool2d()(tn.tensor(X[0])), ValueError, "x has shape (6, 8, 3); 4 axes (N, H, W, C)"),
    ],
)
def test_error_sentences(call, error, sentence):
    with pytest.raises(error) as caught:
        call()
    assert sentence in str(caught.value)


# ------------------------------------------------------------------------------------- PyTorch
def both(mine, theirs, x, gy):
    """((y, gx) of tinynet, (y, gx) of PyTorch) for functions of images, channels last."""
    torch = pytest.importorskip("torch")
    a, b = tn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, their_y = mine(a), theirs(b.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    y.backward(gy)
    their_y.backward(torch.tensor(gy))
    return (y.numpy(), a.grad.numpy()), (their_y.detach().numpy(), b.grad.numpy())


def compare(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.bench
def test_torch_agrees_on_average_pooling():
    torch = pytest.importorskip("torch")
    x, gy = RNG.standard_normal((2, 7, 9, 3)), RNG.standard_normal((2, 4, 4, 3))
    windows = {"stride": (2, 2), "padding": (1, 0)}
    compare(
        *both(
            lambda x: tn.avg_pool2d(x, 3, **windows), lambda x: torch.nn.functional.avg_pool2d(x, 3, **windows), x, gy
        )
    )


@pytest.mark.bench
def test_torch_agrees_on_local_response_norm_with_its_alpha():
    torch = pytest.importorskip("torch")
    x, gy = RNG.standard_normal((2, 3, 4, 8)), RNG.standard_normal((2, 3, 4, 8))
    theirs = torch.nn.LocalResponseNorm(5, alpha=5 * 0.3, beta=0.75, k=2.0)
    compare(*both(lambda x: tn.local_response_norm(x, 5, 2.0, 0.3, 0.75), theirs, x, gy))


@pytest.mark.bench
@pytest.mark.parametrize("training", [True, False])
def test_torch_agrees_on_batch_norm(training):
    torch = pytest.importorskip("torch")
    mine, theirs = (
        nn.BatchNorm2d(3).astype(np.float64).train(training),
        torch.nn.BatchNorm2d(3).double().train(training),
    )
    values = RNG.uniform(0.5, 2, (4, 3))
    for name, other, value in zip(
        ("gamma", "beta", "running_mean", "running_var"), ("weight", "bias", "running_mean", "running_var"), values
    ):
        target = getattr(mine, name)
        (target.data if isinstance(target, tn.Tensor) else target)[...] = value
        getattr(theirs, other).data[...] = torch.tensor(value)
    x, gy = RNG.standard_normal((4, 5, 6, 3)) * 3 + 1, RNG.standard_normal((4, 5, 6, 3))
    compare(*both(mine, theirs, x, gy))
    compare((mine.gamma.grad.numpy(), mine.beta.grad.numpy()), (theirs.weight.grad.numpy(), theirs.bias.grad.numpy()))
    compare((mine.running_mean, mine.running_var), (theirs.running_mean.numpy(), theirs.running_var.numpy()))
