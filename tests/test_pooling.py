"""max_pool2d and max_unpool2d: ties, NaN, overlapping windows, outside implementations, bad input, planted mistakes.

That every tier agrees with the reference and that derivatives agree with differences is in test_ops.py.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter
from skimage.measure import block_reduce
from test_ops import cases_of, spread

import tinynet as tn
from tinynet.learn.gradcheck import GradientError, gradcheck
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.max_pool2d import cpu, reference

TIERS = pytest.mark.parametrize("tier", [reference, cpu], ids=["reference", "cpu"])
RNG = np.random.default_rng(5)


def plane(*rows):
    """One image of one channel."""
    return np.array(rows, np.float32)[None, :, :, None]


# ------------------------------------------------------------------------------------- windows at the border
def windows_of(n, size, stride, padding):
    """(first, end) of each window along an axis, in the pixels of the image, with ceil_mode."""
    starts = range(-padding, n, stride)  # a window begins in the image or in the padding before it
    reached = [first for first in starts if first == -padding or first - stride + size < n + padding]
    return [(first, min(first + size, n + padding)) for first in reached]


@pytest.mark.parametrize(
    ("shape", "size", "stride", "padding"),
    [
        ((5, 7), (2, 2), (2, 2), (0, 0)),
        ((6, 8), (3, 2), (2, 3), (1, 0)),
        ((5, 6), (3, 3), (2, 2), (1, 1)),
        ((4, 4), (2, 2), (3, 3), (1, 1)),
        ((1, 2), (2, 3), (2, 2), (0, 1)),
        ((6, 6), (3, 3), (3, 3), (0, 0)),
        ((4, 9), (1, 2), (3, 4), (0, 0)),
    ],
)
def test_ceil_mode_and_the_padding_in_a_mean(shape, size, stride, padding):
    x = RNG.standard_normal((2, *shape, 3))
    rows, columns = (windows_of(*axis) for axis in zip(shape, size, stride, padding))
    options = {"ceil_mode": True, "return_indices": True}
    y, indices = tn.max_pool2d(tn.tensor(x), size, stride, padding, **options)
    means = [tn.avg_pool2d(x, size, stride, padding, ceil_mode=True, count_include_pad=c) for c in (True, False)]
    assert y.shape == means[0].shape == (2, len(rows), len(columns), 3)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            part = x[:, max(top, 0) : bottom, max(left, 0) : right]
            np.testing.assert_array_equal(y.numpy()[:, i, j], part.max((1, 2)))
            np.testing.assert_allclose(means[1][:, i, j], part.mean((1, 2)), rtol=1e-12)
            whole = part.sum((1, 2)) / ((bottom - top) * (right - left))
            np.testing.assert_allclose(means[0][:, i, j], whole, rtol=1e-12)
    picked = np.take_along_axis(x.reshape(2, -1, 3), indices.numpy().reshape(2, -1, 3), axis=1)
    np.testing.assert_array_equal(picked.reshape(y.shape), y.numpy())


@pytest.mark.bench
@pytest.mark.parametrize("shape", [(5, 7), (6, 8), (9, 4)])
@pytest.mark.parametrize("windows", [(2, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 1), (4, 3, 2)])
@pytest.mark.parametrize("ceil_mode", [True, False])
def test_torch_agrees_on_the_windows_at_the_border(shape, windows, ceil_mode):
    torch = pytest.importorskip("torch")
    x = RNG.standard_normal((2, *shape, 3))
    theirs = torch.tensor(x).permute(0, 3, 1, 2)
    options = {"ceil_mode": ceil_mode, "return_indices": True}
    results = zip(tn.max_pool2d(x, *windows, **options), torch.nn.functional.max_pool2d(theirs, *windows, **options))
    pairs = list(results)
    for count in (True, False):
        options = {"ceil_mode": ceil_mode, "count_include_pad": count}
        their_mean = torch.nn.functional.avg_pool2d(theirs, *windows, **options)
        pairs.append((tn.avg_pool2d(x, *windows, **options), their_mean))
    for a, b in pairs:
        np.testing.assert_allclose(a, b.permute(0, 2, 3, 1), rtol=1e-12)


# ------------------------------------------------------------------------------------- which pixel wins
@TIERS
def test_a_tie_goes_to_the_first_in_row_major_order(tier):
    x = plane([0, 0, 3, 1], [0, 0, 3, 3], [-1, 2, 5, 5], [2, 2, 4, 5])
    y, indices = tier.forward(x, (2, 2), Geometry((2, 2)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[0, 3], [2, 5]])
    np.testing.assert_array_equal(indices[0, :, :, 0], [[0, 2], [9, 10]])
    assert indices.dtype == np.int32


@TIERS
def test_a_nan_wins_and_the_first_of_two(tier):
    nan, inf = np.nan, np.inf
    x = plane([1, nan, nan, inf], [nan, 9, inf, 2], [-inf, -inf, 1, inf], [-inf, -inf, inf, nan])
    y, indices = tier.forward(x, (2, 2), Geometry((2, 2)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[nan, nan], [-inf, nan]])
    np.testing.assert_array_equal(indices[0, :, :, 0], [[1, 2], [8, 15]])


@TIERS
def test_padding_never_wins(tier):
    x = np.full((1, 3, 4, 2), -np.inf)
    y, indices = tier.forward(x, (3, 3), Geometry(padding=(2, 2)))
    assert np.all(y == -np.inf)
    assert indices.min() >= 0
    assert indices.max() < 12
    assert np.all(tier.forward(-1 - RNG.random((2, 3, 4, 5)), (2, 2), Geometry(padding=(1, 1)))[0] < 0)


@st.composite
def poolings(draw):
    """(x with many ties, parameters) of small sizes of every kind."""
    size, stride = (draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(2))
    padding = tuple(draw(st.integers(0, k - 1)) for k in size)
    shape = tuple(draw(st.integers(max(1, k - 2 * p), 8)) for k, p in zip(size, padding))
    n, channels = draw(st.integers(0, 2)), draw(st.sampled_from([1, 3, 16, 19]))
    values = np.random.default_rng(draw(st.integers(0, 1000))).integers(-2, 3, (n, *shape, channels))
    layout = draw(st.sampled_from([np.array, np.asfortranarray, spread]))
    return layout(values.astype(np.float64)), (size, Geometry(stride, padding))


@settings(deadline=None, max_examples=30)
@given(poolings())
def test_both_tiers_choose_the_same_pixel(pooling):
    x, windows = pooling
    for a, b in zip(cpu.forward(x, *windows), reference.forward(x, *windows), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(deadline=None, max_examples=30)
@given(poolings())
def test_unpooling_is_the_exact_transpose_of_pooling_with_the_same_indices(pooling):
    """<gather(x), y> = <x, scatter(y)>, windows overlapping or not. Small integers: no rounding."""
    x, windows = pooling
    y, indices = cpu.forward(x, *windows)
    np.testing.assert_array_equal(cpu.gather(x, indices), y)
    other = np.random.default_rng(0).integers(-5, 6, y.shape).astype(x.dtype)
    assert np.vdot(y, other) == np.vdot(x, tn.max_unpool2d(other, indices, x.shape[1:3]))


@settings(deadline=None, max_examples=30)
@given(
    cell=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    windows=st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 3)),
    left_over=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    channels=st.one_of(st.integers(1, 40), st.sampled_from([16, 32])),
    around=st.sampled_from([(0, 0), (0, 3), (16, 16)]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_cells_are_filled_wholly_and_read_channel_slices(cell, windows, left_over, channels, around, dtype):
    """Each pixel written once gives what zeros and additions give; g as concat's gradient hands it over."""
    n, rows, columns = windows
    size = (rows * cell[0] + left_over[0], columns * cell[1] + left_over[1])
    rng = np.random.default_rng(0)
    iy = np.arange(rows)[:, None, None] * cell[0] + rng.integers(0, cell[0], (n, rows, columns, channels))
    ix = np.arange(columns)[:, None] * cell[1] + rng.integers(0, cell[1], (n, rows, columns, channels))
    indices = (iy * size[1] + ix).astype(np.int32)
    g = rng.standard_normal((n, rows, columns, around[0] + channels + around[1])).astype(dtype)
    g = g[..., around[0] : around[0] + channels]
    with mock.patch.object(cpu.memory, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype)):
        actual = cpu.scatter(g, indices, size=size, cell=cell)
    np.testing.assert_array_equal(actual, reference.scatter(g, indices, size=size))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 5, 8, 16, 21, 32])
def test_forward_reads_channel_slices(channels, dtype):
    x = RNG.standard_normal((2, 6, 9, channels + 7)).astype(dtype)[..., 3 : 3 + channels]
    windows = (2, 3), Geometry((2, 2))
    for a, b in zip(cpu.forward(x, *windows), reference.forward(x, *windows), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_windows_that_lie_apart_are_cells():
    seen = []

    def scatter(g, indices, *, size, cell):
        seen.append(cell)
        return reference.scatter(g, indices, size=size)

    for size, stride, padding in [(2, 2, 0), (2, 3, 0), (3, 2, 0), ((2, 3), (2, 2), 0), (2, 2, 1)]:
        with tn.use_kernels("max_pool2d", scatter=scatter):
            tn.max_pool2d(tn.tensor(X, requires_grad=True), size, stride, padding).sum().backward()
    assert seen == [(2, 2), (3, 3), None, None, None]


# ------------------------------------------------------------------------------------- outside implementations
def test_scikit_images_block_reduce():
    x = RNG.standard_normal((2, 6, 9, 5))
    np.testing.assert_array_equal(tn.max_pool2d(x, (2, 3)), block_reduce(x, (1, 2, 3, 1), np.max))


@pytest.mark.parametrize("size", [(3, 3), (5, 3), (1, 5)])
def test_scipys_maximum_filter(size):
    x = RNG.standard_normal((2, 7, 8, 3))
    padding = (size[0] // 2, size[1] // 2)
    expected = maximum_filter(x, (1, *size, 1), mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(tn.max_pool2d(x, size, 1, padding), expected)


@pytest.mark.bench
@pytest.mark.parametrize("case", cases_of("max_pool2d", large=False), ids=lambda case: case.label)
def test_torch_agrees_where_it_can(case):
    torch = pytest.importorskip("torch")
    _, kernel_size, (stride, padding, *_) = case.calls["forward"][0]
    if any(2 * p > k for p, k in zip(padding, kernel_size)):
        pytest.skip("PyTorch pads by half a window at most")
    x = case.inputs[0]
    gy = RNG.standard_normal(case.calls["scatter"][0][0].shape)
    mine, theirs = tn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, indices = tn.max_pool2d(mine, kernel_size, stride, padding, return_indices=True)
    y.backward(gy)
    their_y, their_indices = torch.nn.functional.max_pool2d(
        theirs.permute(0, 3, 1, 2), kernel_size, stride, padding, return_indices=True
    )
    their_y.backward(torch.tensor(gy).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(y.numpy(), their_y.detach().permute(0, 2, 3, 1))
    np.testing.assert_array_equal(indices.numpy(), their_indices.permute(0, 2, 3, 1))
    np.testing.assert_allclose(mine.grad.numpy(), theirs.grad, rtol=1e-14)
    if stride == kernel_size and len(x):
        unpooled = torch.nn.functional.max_unpool2d(
            their_y, their_indices, kernel_size, stride, output_size=x.shape[1:3]
        )
        np.testing.assert_array_equal(
            tn.max_unpool2d(y, indices, x.shape[1:3]).numpy(), unpooled.detach().permute(0, 2, 3, 1)
        )


# ------------------------------------------------------------------------------------- on Tensors
def test_the_stride_is_the_size_unless_given():
    x = RNG.standard_normal((1, 9, 9, 2))
    np.testing.assert_array_equal(tn.max_pool2d(x, 3), tn.max_pool2d(x, 3, 3))
    assert tn.max_pool2d(x).shape == (1, 4, 4, 2)
    assert tn.max_pool2d(x, 2, 1).shape == (1, 8, 8, 2)


def test_arrays_give_arrays_and_tensors_tensors():
    x = RNG.standard_normal((1, 4, 4, 2)).astype(np.float32)
    y, indices = tn.max_pool2d(x, return_indices=True)
    assert type(y) is type(indices) is np.ndarray
    y, indices = tn.max_pool2d(tn.tensor(x), return_indices=True)
    assert isinstance(y, tn.Tensor)
    assert isinstance(indices, tn.Tensor)
    assert (y.dtype, indices.dtype, indices.requires_grad) == (np.float32, np.int32, False)


def test_values_that_meet_are_added():
    x = tn.tensor(plane([1, 2, 3], [4, 9, 5], [6, 7, 8]), requires_grad=True)
    y, indices = tn.max_pool2d(x, 2, 1, return_indices=True)  # the 9 in the middle wins in all four windows
    np.testing.assert_array_equal(indices.numpy().ravel(), [4, 4, 4, 4])
    expected = plane([0, 0, 0], [0, 36, 0], [0, 0, 0])
    np.testing.assert_array_equal(tn.max_unpool2d(y, indices, 3).numpy(), expected)
    y.backward(np.full((1, 2, 2, 1), 9, np.float32))
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_pooling_what_was_unpooled_gives_the_same_back():
    x = RNG.random((2, 6, 8, 3)) + 1
    y, indices = tn.max_pool2d(x, return_indices=True)
    np.testing.assert_array_equal(tn.max_pool2d(tn.max_unpool2d(y, indices, (6, 8))), y)


# ------------------------------------------------------------------------------------- bad input
X = np.ones((2, 6, 8, 3), np.float32)
Y, INDICES = tn.max_pool2d(X, return_indices=True)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: tn.max_pool2d(X[0]), ValueError, "max_pool2d: x has shape (6, 8, 3); 4 axes (N, H, W, C) are needed"),
        (lambda: tn.max_pool2d(X.astype(int)), TypeError, "max_pool2d: x has dtype int64; a floating-point one"),
        (lambda: tn.max_pool2d(X, 0), ValueError, "max_pool2d: size is 0; it must be at least 1"),
        (lambda: tn.max_pool2d(X, 2, 0), ValueError, "max_pool2d: stride is 0; it must be at least 1"),
        (lambda: tn.max_pool2d(X, 2.0), ValueError, "max_pool2d: size is 2.0; an integer or a pair (y, x)"),
        (lambda: tn.max_pool2d(X, 7), ValueError, "max_pool2d: size (7, 7) is larger than x (2, 6, 8, 3)"),
        (lambda: tn.max_pool2d(X[:, :0], 2, 1, 1), ValueError, "is larger than x (2, 0, 8, 3) with padding (1, 1)"),
        (lambda: tn.max_pool2d(X, 2, padding=2), ValueError, "padding (2, 2) must be less than size (2, 2)"),
        (
            lambda: tn.max_unpool2d(Y, INDICES.astype(np.int64), 8),
            TypeError,
            "indices has dtype int64; int32 is needed",
        ),
        (lambda: tn.max_unpool2d(Y, [1], 8), TypeError, "max_unpool2d: indices has dtype list; int32 is needed"),
        (lambda: tn.max_unpool2d(Y, INDICES[:1], 8), ValueError, "indices (1, 3, 4, 3) must have the shape of y"),
        (
            lambda: tn.max_unpool2d(Y, INDICES, (5, 7)),
            ValueError,
            "max_unpool2d: indices go from 0 to 38; a plane of size (5, 7) has 0 to 34",
        ),
        (lambda: tn.max_unpool2d(Y, INDICES - 1, (6, 8)), ValueError, "indices go from -1 to 37"),
    ],
)
def test_error_sentences(call, error, sentence):
    with pytest.raises(error) as caught:
        call()
    assert sentence in str(caught.value)


# ------------------------------------------------------------------------------------- planted mistakes
def last_of_equals(x, kernel_size, geometry):
    """`>=` for `>`: scanning in the opposite direction."""
    y, indices = reference.forward(x[:, ::-1, ::-1], kernel_size, geometry)
    return y[:, ::-1, ::-1], x.shape[1] * x.shape[2] - 1 - indices[:, ::-1, ::-1]


def test_a_tie_that_goes_to_the_last_is_caught():
    case = next(c for c in cases_of("max_pool2d") if c.label == "ties" and c.calls["forward"][0][1] == (2, 2))
    arguments, _ = case.calls["forward"]
    assert not np.array_equal(last_of_equals(*arguments)[1], reference.forward(*arguments)[1])


def overwriting(g, indices, *, size, cell=None):
    """`=` for `+=`."""
    result = np.zeros((len(g), size[0] * size[1], g.shape[3]), g.dtype)
    np.put_along_axis(result, indices.reshape(len(g), -1, g.shape[3]), g.reshape(len(g), -1, g.shape[3]), axis=1)
    return result.reshape(len(g), *size, g.shape[3])


def zero_padded(x, kernel_size, geometry):
    """Padding with zeros: negative maxima at the border are lost."""
    _, indices = reference.forward(x, kernel_size, geometry)
    (py, px) = geometry.padding
    wide = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))
    return reference.forward(wide, kernel_size, Geometry(geometry.stride))[0], indices


@pytest.mark.parametrize(
    ("kernel", "wrong"),
    [
        ("scatter", overwriting),
        ("scatter", lambda g, indices, *, size, **_: reference.scatter(g, indices, size=size) / 2),
        ("scatter", lambda g, indices, *, size, **_: np.flip(reference.scatter(g, indices, size=size), 1)),
        ("forward", zero_padded),
    ],
    ids=["overwritten where windows overlap", "halved", "upside down", "padded with zeros"],
)
def test_a_planted_mistake_is_caught_by_the_gradient_check(kernel, wrong):
    with tn.use_backend("reference"), tn.use_kernels("max_pool2d", **{kernel: wrong}), pytest.raises(GradientError):
        for case in cases_of("max_pool2d", large=False):
            if len(case.inputs[0]):
                gradcheck(case.function, case.inputs)
