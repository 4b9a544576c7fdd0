"""Volumes: conv3d, its transpose and the poolings against SciPy and NumPy; the layers; wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, signal

import tinynet as tn
from tinynet import nn
from tinynet.learn.gradcheck import gradcheck
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.conv2d import blocked
from tinynet.ops.conv3d import cpu


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_conv3d_agrees_with_scipy(rng):
    x, w, b = rng.standard_normal((2, 4, 5, 6, 3)), rng.standard_normal((3, 2, 3, 3, 2)), rng.standard_normal(2)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0), (2, 2), (0, 0)))
    expected = np.zeros((2, 4, 4, 8, 2)) + b
    for n, ci, co in np.ndindex(2, 3, 2):
        expected[n, ..., co] += signal.correlate(padded[n, ..., ci], w[..., ci, co], mode="valid", method="direct")
    actual = tn.conv3d(tn.tensor(x), w, b, padding=(1, 0, 2)).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    strided = tn.conv3d(tn.tensor(x), w, b, stride=(2, 1, 3), padding=(1, 0, 2)).numpy()
    np.testing.assert_allclose(strided, expected[:, ::2, :, ::3], atol=1e-12)


@pytest.mark.parametrize("version", ["winograd4", "blocked"])
def test_conv3d_in_several_parts(rng, version, monkeypatch):
    """More tiles than a group of winograd4 holds, and more rows than a band of blocked, by one sum of images each."""
    monkeypatch.setattr(blocked, "BAND_BYTES", 20_000)
    x, w = rng.standard_normal((2, 3, 41, 15, 16), np.float32), rng.standard_normal((2, 3, 3, 16, 16), np.float32)
    geometry = Geometry((1,) * 3, (2, 1, 0), (1,) * 3)
    kernels, expected = (cpu.IMPLEMENTATIONS[name] for name in (version, "joined"))
    y = expected["forward"](x, w, None, geometry)
    calls = {
        "forward": (x, w, w[0, 0, 0, 0], geometry),
        "backward_input": (y, w, x.shape[1:4], geometry),
        "backward_weight": (x, y, w.shape[:3], geometry),
    }
    for name, arguments in calls.items():
        result = expected[name](*arguments)
        np.testing.assert_allclose(kernels[name](*arguments), result, atol=1e-5 * abs(result).max())


def test_the_transpose_is_the_gradient_of_conv3d(rng):
    w = rng.standard_normal((2, 3, 2, 2, 4))
    x = tn.tensor(rng.standard_normal((1, 5, 6, 4, 2)), requires_grad=True)
    y = tn.conv3d(x, w, stride=(2, 1, 2), padding=(0, 1, 1))
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    back = tn.conv_transpose3d(
        tn.tensor(gy), w, np.ones(2), stride=(2, 1, 2), padding=(0, 1, 1), output_padding=(1, 0, 0)
    )
    np.testing.assert_allclose(back.numpy(), x.grad.numpy() + 1, atol=1e-12)
    gradcheck(lambda g, w, b: tn.conv_transpose3d(g, w, b, stride=2), (gy[:, :, :2, :2], w, np.ones(2)))


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, None, 0), ((3, 2, 1), (1, 2, 2), (1, 0, 0))])
def test_poolings_are_windows_over_the_volume(rng, size, stride, padding):
    x = rng.integers(-2, 3, (2, 5, 6, 4, 3)).astype(float)  # many equal values
    sizes, pads = np.broadcast_to(size, 3), np.broadcast_to(padding, 3)
    steps = sizes if stride is None else np.array(stride)

    def windows(fill):
        padded = np.pad(x, [(0, 0), *((p, p) for p in pads), (0, 0)], constant_values=fill)
        views = np.lib.stride_tricks.sliding_window_view(padded, tuple(sizes), axis=(1, 2, 3))
        return views[:, :: steps[0], :: steps[1], :: steps[2]]

    largest, mean = (
        tn.max_pool3d(tn.tensor(x), size, stride, padding),
        tn.avg_pool3d(tn.tensor(x), size, stride, padding),
    )
    np.testing.assert_array_equal(largest.numpy(), windows(-np.inf).max((-3, -2, -1)))
    np.testing.assert_allclose(mean.numpy(), windows(0).mean((-3, -2, -1)), atol=1e-14)


def test_of_equal_voxels_the_first_one_gets_the_gradient():
    x = tn.tensor(np.zeros((1, 2, 2, 2, 1)), requires_grad=True)
    tn.max_pool3d(x).sum().backward()
    assert x.grad.numpy().ravel().tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_layers_have_the_shapes_they_promise(rng):
    net = nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)),
        *(nn.Conv3d(4, 8, 2, stride=2, groups=2), nn.ConvTranspose3d(8, 4, 2, stride=2), nn.AvgPool3d((1, 2, 2))),
    )
    x = tn.tensor(rng.standard_normal((2, 8, 8, 12, 1), dtype=np.float32))
    y = net(x)
    assert y.shape == (2, 4, 2, 3, 4)
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert nn.Conv3d(512, 2, 3).weight.numpy().std() == pytest.approx(np.sqrt(2 / (27 * 512)), rel=0.05)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: tn.conv3d(x[0], np.ones((1, 1, 1, 2, 1))), r"x has shape \(3, 3, 3, 2\); 5 axes \(N, D, H, W, C\)"),
        (lambda x: tn.conv3d(x, np.ones((1, 1, 1, 3, 1))), "expects 3 input channels, x .* has 2"),
        (lambda x: tn.conv3d(x, np.ones((5, 1, 1, 2, 1))), "larger than"),
        (
            lambda x: tn.conv3d(x, np.ones((1, 1, 1, 2, 1)), stride=(1, 1)),
            r"stride is \(1, 1\); an integer or a triple",
        ),
        (lambda x: tn.conv3d(x, np.ones((1, 1, 1, 2, 3)), groups=2), "groups 2 must divide"),
        (lambda x: tn.conv_transpose3d(x, np.ones((1, 1, 1, 1, 2)), output_padding=1), "less than stride"),
        (lambda x: tn.max_pool3d(x, 2, padding=2), "must be less than size"),
        (lambda x: tn.resize3d(x, (2, 2)), r"size is \(2, 2\); an integer or a triple"),
        (lambda x: tn.resize3d(x, 2, "cubic"), "mode is 'cubic'; it must be one of linear, nearest"),
        (lambda x: tn.grid_sample3d(x, np.ones((1, 2, 2))), r"grid has shape \(1, 2, 2\)"),
        (lambda x: tn.warp(x, np.ones((1, 3, 3, 3, 2))), r"displacement has shape \(1, 3, 3, 3, 2\)"),
        (lambda x: tn.warp(x, np.ones((1, 3, 3, 3, 3)), "reflect"), "padding is 'reflect'"),
        (lambda x: tn.affine_grid(np.ones((1, 3, 3)), (2, 2)), r"matrices has shape \(1, 3, 3\)"),
    ],
)
def test_wrong_arguments_are_named(function, message):
    with pytest.raises(ValueError, match=message):
        function(tn.tensor(np.ones((1, 3, 3, 3, 2))))


# ---------------------------------------------------------------------------------------- resize and sample
@pytest.mark.parametrize(("mode", "order"), [("linear", 1), ("nearest", 0)])
def test_resize_agrees_with_scipy(rng, mode, order):
    x = rng.standard_normal((5, 6, 4))
    zoomed = ndimage.zoom(x, (8 / 5, 0.5, 9 / 4), order=order, grid_mode=True, mode="nearest")
    actual = tn.resize3d(tn.tensor(x[None, ..., None]), (8, 3, 9), mode).numpy()
    np.testing.assert_allclose(actual[0, ..., 0], zoomed, atol=1e-12)
    upright = ndimage.zoom(x[0], (4 / 6, 6 / 4), order=order, grid_mode=True, mode="nearest")
    np.testing.assert_allclose(tn.resize2d(x[:1, ..., None], (4, 6), mode)[0, ..., 0], upright, atol=1e-12)


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "grid-constant"), ("border", "nearest")])
@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 3)])
def test_warp_agrees_with_scipy(rng, padding, mode, shape):
    x = rng.standard_normal(shape)
    displacement = rng.uniform(-4, 4, (*shape, len(shape)))
    places = np.moveaxis(np.stack(np.indices(shape), axis=-1) + displacement, -1, 0)
    expected = ndimage.map_coordinates(x, places, order=1, mode=mode)
    actual = tn.warp(tn.tensor(x[None, ..., None]), displacement[None], padding).numpy()
    np.testing.assert_allclose(actual[0, ..., 0], expected, atol=1e-12)


def test_a_grid_has_x_first_and_ends_at_the_edges():
    x = tn.tensor(np.arange(6.0).reshape(1, 2, 3, 1))  # a row 0 1 2 above a row 3 4 5
    identity = tn.affine_grid(np.array([[[1.0, 0, 0], [0, 1, 0]]]), (2, 3))
    np.testing.assert_allclose(tn.grid_sample2d(x, identity).numpy(), x.numpy(), atol=1e-12)
    right_half = np.array([[[[2 / 3, -0.5]]]])  # the center of the last pixel of the first row
    assert tn.grid_sample2d(x, right_half).numpy().item() == pytest.approx(2)
    mirrored = tn.affine_grid(np.array([[[-1.0, 0, 0], [0, 1, 0]]]), (2, 3))
    np.testing.assert_allclose(tn.grid_sample2d(x, mirrored).numpy(), x.numpy()[:, :, ::-1], atol=1e-12)


@pytest.mark.parametrize("tier", ["reference", "cpu"])
def test_nan_and_far_points(tier):
    points = np.array([[[np.nan, 0.0]], [[1e30, -np.inf]]])[:, :, None]
    x = tn.tensor(np.ones((2, 2, 2, 1)))
    with tn.use_backend(tier):
        y = tn.grid_sample2d(x, points).numpy().ravel()
    assert np.isnan(y[0])
    assert y[1] == 0


def test_a_registration_finds_the_shift(rng):
    """The gradient with respect to the points moves an image onto another one."""
    still = ndimage.gaussian_filter(rng.standard_normal((20, 20)), 2)[None, ..., None]
    moved = ndimage.shift(still, (0, 1.5, -1, 0), order=1, mode="nearest")
    shift = tn.tensor(np.zeros(2), requires_grad=True)
    for _ in range(100):
        shift.grad = None
        loss = ((tn.warp(tn.tensor(moved), shift + np.zeros((1, 20, 20, 2))) - still) ** 2).mean()
        loss.backward()
        shift = tn.tensor(shift.numpy() - 100 * shift.grad.numpy(), requires_grad=True)
    np.testing.assert_allclose(shift.numpy(), [1.5, -1], atol=0.1)
