"""conv_transpose2d beside SciPy and PyTorch, as the transpose of conv2d, with bad input and planted mistakes.

That every tier agrees with the reference and that derivatives agree with differences is in test_ops.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve
from test_ops import assert_close, cases_of, spread

import tinynet as tn
from tinynet.learn.gradcheck import GradientError, gradcheck
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.conv_transpose2d import cpu, reference


@st.composite
def geometries(draw):
    """(x, w, b, parameters) with small sizes of every kind and at least one pixel of output."""

    def pair(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    stride, dilation, kernel, size = pair(1, 4), pair(1, 3), pair(1, 4), pair(1, 5)
    padding, output_padding = [], []
    for n, k, s, d in zip(size, kernel, stride, dilation):
        covered = (n - 1) * s + d * (k - 1) + 1
        padding.append(draw(st.integers(0, min(3, (covered - 1) // 2))))
        output_padding.append(draw(st.integers(0, s - 1)))
    groups, i_group, o_group = (draw(st.integers(1, 3)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.standard_normal((draw(st.integers(0, 2)), *size, groups * i_group))
    w = rng.standard_normal((*kernel, o_group, groups * i_group))
    b = rng.standard_normal(groups * o_group)
    parameters = {"stride": stride, "padding": tuple(padding), "dilation": dilation, "groups": groups}
    layout = draw(st.sampled_from([np.array, np.asfortranarray, spread]))
    return *map(layout, (x, w, b)), tuple(output_padding), parameters


def painted(x, w, b, output_padding, *, stride, padding, dilation, groups):
    """The definition as it is drawn: zeros between the pixels of x, SciPy's full convolution, the border cut off."""
    n, height, width, _ = x.shape
    drawn = max(n, 1)  # SciPy wants something to convolve
    wide = np.zeros((drawn, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, x.shape[3]))
    wide[:n, :: stride[0], :: stride[1]] = x
    dilated = np.zeros([(k - 1) * d + 1 for k, d in zip(w.shape[:2], dilation)] + list(w.shape[2:]))
    dilated[:: dilation[0], :: dilation[1]] = w
    i_group = x.shape[3] // groups
    channels = [
        sum(
            convolve(wide[:, :, :, ci], dilated[None, :, :, co, ci])
            for ci in range(group * i_group, (group + 1) * i_group)
        )
        for group in range(groups)
        for co in range(w.shape[2])
    ]
    y = np.pad(np.stack(channels, axis=3), ((0, 0), (0, output_padding[0]), (0, output_padding[1]), (0, 0)))
    return y[:n, padding[0] : y.shape[1] - padding[0], padding[1] : y.shape[2] - padding[1]] + b


@settings(deadline=None, max_examples=30)
@given(geometries())
def test_forward_is_scipys_convolution_of_the_spread_input(geometry):
    x, w, b, output_padding, parameters = geometry
    y = tn.conv_transpose2d(x, w, b, output_padding=output_padding, **parameters)
    want = painted(x, w, b, output_padding, **parameters)
    assert y.shape == want.shape
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(geometries())
def test_it_is_the_transpose_of_the_conv2d_with_the_same_weight(geometry):
    """conv2d leads back to the size of x, whatever output_padding, and <conv_transpose2d(x), z> = <x, conv2d(z)>."""
    x, w, _, output_padding, parameters = geometry
    y = tn.conv_transpose2d(x, w, output_padding=output_padding, **parameters)
    z = np.random.default_rng(0).standard_normal(y.shape)
    back = tn.conv2d(z, w, **parameters)
    assert back.shape == x.shape
    scale = np.linalg.norm(x) * np.linalg.norm(w) * np.linalg.norm(z)
    assert np.vdot(y, z) == pytest.approx(np.vdot(x, back), abs=1e-13 * scale)


def test_a_2x2_kernel_with_stride_2_makes_a_patch_of_each_pixel():
    w = np.array([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None]
    y = tn.conv_transpose2d(np.array([[1.0, 10.0]])[None, :, :, None], w, stride=2)
    np.testing.assert_array_equal(y[0, :, :, 0], [[1, 2, 10, 20], [3, 4, 30, 40]])


def test_pixels_that_no_tap_reaches_hold_the_bias():
    y = tn.conv_transpose2d(np.ones((1, 2, 2, 1)), np.ones((1, 1, 1, 1)), np.array([7.0]), stride=2)
    np.testing.assert_array_equal(y[0, :, :, 0], [[8, 7, 8], [7, 7, 7], [8, 7, 8]])


# ------------------------------------------------------------------------------------- patches: kernel = stride
@st.composite
def patch_layers(draw):
    """(x, w, b, gy) of a layer whose kernel is its stride: tails of all blocks, one pixel, no image, channel slices."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 19)))
    c_in, c_out = (draw(st.one_of(st.integers(1, 40), st.sampled_from([16, 32, 64]))) for _ in range(2))
    n = draw(st.integers(0, 2))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))

    def pixels(*shape):
        """Whole or as a channel slice, which the kernels read in place."""
        before, after = draw(st.sampled_from([(0, 0), (0, 3), (5, 0), (16, 16)]))
        wide = rng.standard_normal((*shape[:3], before + shape[3] + after)).astype(dtype)
        return wide[..., before : before + shape[3]]

    x, gy = pixels(n, *size, c_in), pixels(n, size[0] * kernel[0], size[1] * kernel[1], c_out)
    return x, rng.standard_normal((*kernel, c_out, c_in)).astype(dtype), rng.standard_normal(c_out).astype(dtype), gy


@settings(deadline=None, max_examples=30)
@given(patch_layers())
def test_patches_agree_with_the_reference(layer):
    x, w, b, gy = layer
    geometry = Geometry(stride=w.shape[:2])
    calls = {
        "forward": ((x, w, b), (gy.shape[1:3], geometry)),
        "backward_input": ((gy, w), (geometry,)),
        "backward_weight": ((x, gy), (w.shape[:2], geometry)),
        "backward_bias": ((gy,), ()),
    }
    for name, (arrays, parameters) in calls.items():
        expected = getattr(reference, name).definition(*(a.astype(np.float64) for a in arrays), *parameters)
        assert_close(getattr(cpu, name)(*arrays, *parameters), expected, x.dtype, max(w.size, gy.size), name)


@pytest.mark.parametrize("shape", [(2, 5, 9, 32), (1, 1, 1, 16), (2, 3, 4, 48)])
def test_patches_take_the_short_way(shape, monkeypatch):
    """The sizes of a U-Net must not fall back to the general kernels, which give the same numbers later."""
    for name in ("forward", "backward_input", "backward_weight"):
        monkeypatch.setattr(cpu.conv2d, name, None)
    geometry = Geometry(stride=(2, 2))
    x, w = np.ones(shape, np.float32), np.ones((2, 2, shape[3] // 2, shape[3]), np.float32)
    gy = cpu.forward(x, w, None, (2 * shape[1], 2 * shape[2]), geometry)
    assert cpu.backward_input(gy, w, geometry).shape == shape
    assert cpu.backward_weight(x, gy, (2, 2), geometry).shape == w.shape


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_in_one_pixel_spoils_its_patch_only(bad):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 3, 11, 20)), rng.standard_normal((2, 2, 12, 20))
    x[0, 1, 10, 3] = bad
    finite = np.isfinite(tn.conv_transpose2d(x, w, stride=2)).all(axis=3)[0]
    want = np.ones((6, 22), bool)
    want[2:4, 20:] = False
    np.testing.assert_array_equal(finite, want)


# ------------------------------------------------------------------------------------- bad input
X, W = np.ones((2, 8, 8, 16), np.float32), np.ones((2, 2, 4, 16), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda: tn.conv_transpose2d(X, np.ones((2, 2, 16, 4), np.float32)),
            ValueError,
            "conv_transpose2d: weight (2, 2, 16, 4) expects 4 input channels, x (2, 8, 8, 16) has 16",
        ),
        (lambda: tn.conv_transpose2d(X[0], W), ValueError, "conv_transpose2d: x has shape (8, 8, 16); 4 axes"),
        (lambda: tn.conv_transpose2d(X, W[0]), ValueError, "weight has shape (2, 4, 16); 4 axes (KH, KW, C_out"),
        (lambda: tn.conv_transpose2d(X, W, np.ones(16, np.float32)), ValueError, "each of the 4 output channels"),
        (
            lambda: tn.conv_transpose2d(X, W, np.ones(4, np.float32), groups=2),
            ValueError,
            "bias (4,) must have one value for each of the 8 output channels",
        ),
        (lambda: tn.conv_transpose2d(X, W.astype(np.float64)), TypeError, "x is float32, weight is float64"),
        (lambda: tn.conv_transpose2d(X, W, groups=3), ValueError, "groups 3 must divide the 16 channels of x"),
        (lambda: tn.conv_transpose2d(X, W, groups=0), ValueError, "groups 0 must divide"),
        (lambda: tn.conv_transpose2d(X, W, stride=-1), ValueError, "stride is -1; it must be at least 1"),
        (
            lambda: tn.conv_transpose2d(X, W, stride=2, output_padding=2),
            ValueError,
            "output_padding (2, 2) must be less than stride (2, 2)",
        ),
        (lambda: tn.conv_transpose2d(X, W, output_padding=(0, 1)), ValueError, "must be less than stride (1, 1)"),
        (lambda: tn.conv_transpose2d(X, W, padding=5), ValueError, "padding (5, 5) has no pixels"),
    ],
)
def test_error_sentences(call, error, sentence):
    with pytest.raises(error) as caught:
        call()
    assert sentence in str(caught.value)


# ------------------------------------------------------------------------------------- planted mistakes
def without_bias_where_no_tap_reaches(x, w, b, *where):
    y = reference.forward(x, w, None, *where)
    return y if b is None else np.where(y == 0, y, y + b)


def without_padding(x, gy, kernel_size, geometry):
    return reference.backward_weight(x, gy, kernel_size, geometry._replace(padding=(0, 0)))


MISTAKES = {
    "kernel flipped": ("forward", lambda x, w, *rest: reference.forward(x, w[::-1, ::-1], *rest)),
    "bias at reached pixels only": ("forward", without_bias_where_no_tap_reaches),
    "kernel flipped in backward_input": (
        "backward_input",
        lambda gy, w, geometry: reference.backward_input(gy, w[::-1, ::-1], geometry),
    ),
    "weight gradient flipped": ("backward_weight", lambda *args: reference.backward_weight(*args)[::-1, ::-1]),
    "padding ignored in the weight gradient": ("backward_weight", without_padding),
    "mean for sum": ("backward_weight", lambda x, *rest: reference.backward_weight(x, *rest) / len(x)),
    "bias of the first image only": ("backward_bias", lambda gy: reference.backward_bias(gy[:1])),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_caught_by_the_gradient_check(mistake):
    name, wrong = MISTAKES[mistake]
    with tn.use_backend("reference"), tn.use_kernels("conv_transpose2d", **{name: wrong}), pytest.raises(GradientError):
        for case in cases_of("conv_transpose2d", large=False):
            gradcheck(case.function, case.inputs)


# ------------------------------------------------------------------------------------- PyTorch
@pytest.mark.bench
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", cases_of("conv_transpose2d"), ids=lambda case: case.label)
def test_torch_agrees_forward_and_in_all_gradients(case, dtype):
    torch = pytest.importorskip("torch")
    x, w, b = (a.astype(dtype) for a in case.inputs)
    gy = case.calls["backward_bias"][0][0].astype(dtype)
    mine = [tn.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = case.function(*mine)
    y.backward(gy)

    leaf = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    wanted_size = case.calls["forward"][1]["output_size"]
    geometry = case.calls["forward"][1]["geometry"]._asdict()
    smallest = torch.nn.functional.conv_transpose2d(
        leaf[0].permute(0, 3, 1, 2), leaf[1].permute(3, 2, 0, 1), leaf[2], **geometry
    ).shape[2:]
    output_padding = tuple(a - b for a, b in zip(wanted_size, smallest))
    their_y = torch.nn.functional.conv_transpose2d(
        leaf[0].permute(0, 3, 1, 2),
        leaf[1].permute(3, 2, 0, 1),
        leaf[2],
        output_padding=output_padding,
        **geometry,
    ).permute(0, 2, 3, 1)
    their_y.backward(torch.tensor(gy))
    assert_close(y.numpy(), their_y.detach().numpy(), dtype, 2 * case.terms, "forward")
    for name, t, their in zip(["x", "w", "b"], mine, leaf):
        assert_close(t.grad.numpy(), their.grad.numpy(), dtype, 2 * case.terms, f"gradient of {name}")
