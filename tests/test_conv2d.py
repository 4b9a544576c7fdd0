"""conv2d beside SciPy and PyTorch, on random geometries, with bad input, and with the usual mistakes.

That every tier agrees with the reference and that derivatives agree with differences is in test_ops.py.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_folders import assert_close, cast, spread
from scipy.ndimage import maximum_filter
from scipy.signal import convolve, correlate

import tinynet as tn
from tinynet.backends.registry import implementation_kernel, implementations
from tinynet.learn.gradcheck import GradientError, gradcheck
from tinynet.learn.gradcheck.tiers import cases_of
from tinynet.ops._shared.epilogue import Epilogue
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.conv2d import blocked, cpu, reference, winograd
from tinynet.ops.conv2d.cpu import Convolution, choose, explain

LADDER = implementations("conv2d", "cpu")
KERNELS = "forward", "backward_input", "backward_weight"  # those that an implementation has of its own


def run(implementation, name, arrays, parameters):
    """Kernel `name` of an implementation, on `arrays`."""
    return implementation_kernel("conv2d", name, "cpu", implementation)(*arrays, **parameters)


def defined(name, arrays, parameters):
    """The result in float64, by the definition."""
    return getattr(reference, name).definition(*cast(tuple(arrays), "float64"), **parameters)


def calls_of(x, w, b, gy, geometry):
    """(kernel, its arrays, its parameters) of one convolution."""
    yield "forward", (x, w, b), {"geometry": geometry}
    yield "backward_input", (gy, w), {"input_size": x.shape[1:3], "geometry": geometry}
    yield "backward_weight", (x, gy), {"kernel_size": w.shape[:2], "geometry": geometry}


# ------------------------------------------------------------------------------------- SciPy
def scipy_conv2d(x, w, b, geometry):
    """conv2d put together from scipy.signal.correlate: one call for each image and pair of channels."""
    stride, padding, dilation, groups = geometry
    x = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    dilated = np.zeros([(k - 1) * d + 1 for k, d in zip(w.shape[:2], dilation)] + list(w.shape[2:]))
    dilated[:: dilation[0], :: dilation[1]] = w
    i_group, o_group = w.shape[2], w.shape[3] // groups

    def channel(n, co):
        start = co // o_group * i_group
        return sum(correlate(x[n, :, :, start + ci], dilated[:, :, ci, co], mode="valid") for ci in range(i_group))

    images = [np.stack([channel(n, co) for co in range(w.shape[3])], axis=2) for n in range(len(x))]
    covered = [size - k + 1 for size, k in zip(x.shape[1:3], dilated.shape)]
    return np.reshape(images, (len(x), *covered, w.shape[3]))[:, :: stride[0], :: stride[1]] + b


@st.composite
def geometries(draw, dtype=np.float64):
    """(x, w, b, gy, geometry): every kind of small size, the kernel fitting into the padded image; any memory layout.

    Batches of none, images of no or one pixel, and output channels around the eight float64 of a vector are among them.
    """

    def pair(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    stride, dilation, padding, kernel = pair(1, 4), pair(1, 3), pair(0, 3), pair(1, 7)
    size = tuple(
        draw(st.integers(max(0, d * (k - 1) + 1 - 2 * p), d * (k - 1) + 6))
        for k, d, p in zip(kernel, dilation, padding)
    )
    groups, i_group, n = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 2))
    o_group = draw(st.sampled_from([1, 2, 3, 9, 17]))
    geometry = Geometry(stride, padding, dilation, groups)
    return draw(arrays_of(dtype, n, size, kernel, groups * i_group, groups * o_group, geometry))


@st.composite
def arrays_of(draw, dtype, n, size, kernel, c_in, c_out, geometry):
    layout = draw(st.sampled_from([np.array, np.asfortranarray, spread, middle_channels]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.standard_normal((n, *size, c_in))
    w = rng.standard_normal((*kernel, c_in // geometry.groups, c_out))
    b = rng.standard_normal(c_out)
    gy = rng.standard_normal((n, *geometry.output_size(size, kernel), c_out))
    return *(layout(a.astype(dtype)) for a in (x, w, b, gy)), geometry


def middle_channels(array):
    """The same numbers as a part of the channels of a wider array, which is what the backward of concat hands on."""
    wide = np.full((*array.shape[:-1], array.shape[-1] + 5), np.nan, array.dtype)
    wide[..., 2:-3] = array
    return wide[..., 2:-3]


@st.composite
def geometries_of_winograd(draw, dtype):
    """What F(2x2, 3x3) and F(4x4, 3x3) cover: 3x3 kernels; tiles that end beyond the border; channel tails."""
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = tuple(draw(st.integers(max(1, 3 - 2 * p), 13)) for p in padding)
    n, c_in, c_out = draw(st.integers(0, 2)), draw(st.sampled_from([16, 17, 40])), draw(st.sampled_from([16, 31, 48]))
    return draw(arrays_of(dtype, n, size, (3, 3), c_in, c_out, Geometry(padding=padding)))


@settings(deadline=None, max_examples=30)
@given(geometries())
def test_forward_is_scipys_correlate(drawn):
    x, w, b, gy, geometry = drawn
    y = tn.conv2d(x, w, b, **geometry._asdict())
    assert y.shape == gy.shape
    np.testing.assert_allclose(y, scipy_conv2d(x, w, b, geometry), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(geometries())
def test_the_three_kernels_are_derivatives_of_one_trilinear_form(drawn):
    """<forward(x, w), gy> = <x, backward_input(gy, w)> = <w, backward_weight(x, gy)>, whatever the geometry."""
    x, w, _, gy, geometry = drawn
    form = np.vdot(scipy_conv2d(x, w, 0, geometry), gy)
    scale = np.linalg.norm(gy) * np.linalg.norm(x) * np.linalg.norm(w)
    gx = cpu.backward_input(gy, w, x.shape[1:3], geometry)
    gw = cpu.backward_weight(x, gy, w.shape[:2], geometry)
    assert np.vdot(x, gx) == pytest.approx(form, abs=1e-13 * scale)
    assert np.vdot(w, gw) == pytest.approx(form, abs=1e-13 * scale)


def test_the_gradient_of_the_input_is_scipys_full_convolution():
    rng = np.random.default_rng(0)
    gy, w = rng.standard_normal((6, 7)), rng.standard_normal((3, 4))
    gx = cpu.backward_input(gy[None, :, :, None], w[:, :, None, None], (8, 10), Geometry())
    np.testing.assert_allclose(gx[0, :, :, 0], convolve(gy, w, mode="full"), rtol=0, atol=1e-13)


def test_float64_is_not_computed_in_float32():
    rng = np.random.default_rng(1)
    x, w = 1 + 1e-10 * rng.standard_normal((1, 6, 6, 17)), np.ones((3, 3, 17, 2))
    y = tn.conv2d(x, w)
    assert y.dtype == np.float64
    assert np.ptp(y) > 1e-10  # float32 sees equal ones


# ------------------------------------------------------------------------------------- the versions
@pytest.mark.parametrize("implementation", LADDER)
@settings(deadline=None, max_examples=15)
@given(drawn=st.sampled_from([np.float32, np.float64]).flatmap(lambda d: geometries(d) | geometries_of_winograd(d)))
def test_every_version_agrees_on_any_geometry(implementation, drawn):
    *arrays, geometry = drawn
    for name, inputs, options in calls_of(*arrays, geometry):
        dtype = inputs[0].dtype
        want, got = defined(name, inputs, options), run(implementation, name, inputs, options)
        assert got.shape == want.shape and got.dtype == dtype
        tolerance = 100 * np.finfo(dtype).eps
        scale = np.max(np.abs(want), initial=1.0)
        np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=tolerance, err_msg=name)


# Pixels on a side, input and output channels. The first has the longest sums over pixels, the last over channels.
UNET_SHAPES = [(256, 16, 16), (128, 3, 16), (32, 64, 64), (16, 256, 128), (8, 256, 256)]


@pytest.fixture(scope="module")
def unet_calls():
    """(kernel, arrays in float32, parameters, result in float64) of 3x3 convolutions as in a U-Net."""
    rng = np.random.default_rng(6)
    calls = []
    for size, c_in, c_out in UNET_SHAPES:
        shapes = (1, size, size, c_in), (3, 3, c_in, c_out), (c_out,), (1, size, size, c_out)
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        for name, inputs, options in calls_of(*arrays, Geometry(padding=(1, 1))):
            calls.append((name, inputs, options, defined(name, inputs, options)))
    return calls


def relative_error(got, want):
    """The largest error, relative to the largest value."""
    return np.max(np.abs(got - want)) / np.max(np.abs(want))


@pytest.mark.parametrize("implementation", LADDER)
def test_accuracy_in_float32_at_the_shapes_of_a_unet(implementation, unet_calls):
    """The policy: within 5e-6 of float64, relative to the largest value."""
    for name, inputs, options, want in unet_calls:
        error = relative_error(run(implementation, name, inputs, options), want)
        assert error <= 5e-6, f"{name} of {inputs[0].shape}, {inputs[1].shape}: {error:.1e}"


@pytest.mark.parametrize("name", KERNELS)
def test_winograd_is_what_runs_where_it_is_asked_for(name, unet_calls):
    """Each version rounds in its own way: equal bits would mean that another version had done the work."""
    _, inputs, options, _ = next(c for c in unet_calls if c[0] == name and c[1][1].shape[3] == 64)
    results = [run(version, name, inputs, options) for version in ("blocked", "winograd2", "winograd4")]
    assert len({result.tobytes() for result in results}) == 3


@pytest.mark.parametrize("implementation", ["winograd4", "winograd2"])
def test_an_image_alone_and_in_a_batch_has_the_same_bits(implementation):
    """With few tiles the threads share the output channels, with many the tiles: nobody may see a difference."""
    rng = np.random.default_rng(11)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((24, 9, 11, 40), (3, 3, 40, 72), (72,)))
    epilogue = Epilogue(alpha=1.0)
    kernels = cpu.VERSIONS[implementation]
    together = kernels.forward(x, w, b, Geometry(padding=(1, 1)), epilogue)
    gx = kernels.backward_input(together, w, (9, 11), Geometry(padding=(1, 1)))
    for n in (0, 23):
        alone = kernels.forward(x[n : n + 1], w, b, Geometry(padding=(1, 1)), epilogue)
        np.testing.assert_array_equal(alone[0], together[n])
        np.testing.assert_array_equal(kernels.backward_input(alone, w, (9, 11), Geometry(padding=(1, 1)))[0], gx[n])


# ------------------------------------------------------------------------------------- Winograd's matrices
MATRICES = {
    name: (kernels.BT, kernels.G, kernels.AT)
    for name, kernels in {"F(2, 3)": winograd.winograd2, "F(4, 3)": winograd.winograd4}.items()
}


def is_a_filtering_algorithm(bt, g, at) -> bool:
    """Whether at [ (g w) * (bt d) ] is the correlation of any d with any w: the sum over points is 1 if i = o + k."""
    products = np.einsum("so,sk,si->oki", at.T, g, bt)
    outputs, taps, inputs = np.indices(products.shape)
    return np.allclose(products, inputs == outputs + taps, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", MATRICES)
def test_winograds_matrices_compute_a_correlation(name):
    bt, g, at = MATRICES[name]
    assert g.shape[1] == 3
    assert bt.shape == (at.shape[1],) * 2 == (at.shape[0] + 2,) * 2
    assert is_a_filtering_algorithm(bt, g, at)
    for matrix in (bt, g, at):  # and no entry is idle: with any one changed it is another operation
        for index in np.ndindex(matrix.shape):
            changed = matrix.copy()
            changed[index] += 0.5
            assert not is_a_filtering_algorithm(*(changed if m is matrix else m for m in (bt, g, at)))


@pytest.mark.parametrize("name", MATRICES)
def test_the_formulas_of_a_tile_in_two_dimensions(name):
    """y and gw of one tile as derivation.md has them, beside SciPy."""
    bt, g, at = MATRICES[name]
    rng = np.random.default_rng(8)
    d, w, gy = (rng.standard_normal((k, k)) for k in (len(bt), 3, len(at)))
    y = at @ ((g @ w @ g.T) * (bt @ d @ bt.T)) @ at.T
    np.testing.assert_allclose(y, correlate(d, w, mode="valid"), rtol=0, atol=1e-13)
    gw = g.T @ ((bt @ d @ bt.T) * (at.T @ gy @ at)) @ g
    np.testing.assert_allclose(gw, correlate(d, gy, mode="valid"), rtol=0, atol=1e-13)


# ------------------------------------------------------------------------------------- special values
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [(5, 18), (17, 33)], ids=["few channels", "as many as Winograd takes"])
@pytest.mark.parametrize("implementation", LADDER)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_reaches_what_reads_it_and_nothing_far_away(implementation, channels, bad):
    """It may reach the rest of a tile, or, through the padding, the border: never more than a tile away."""
    rng = np.random.default_rng(2)
    c_in, c_out = channels
    shapes = (2, 7, 21, c_in), (3, 3, c_in, c_out), (c_out,), (2, 7, 21, c_out)
    x, w, b, gy = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    for poisoned in ([(x, (1, 6, 20, 4)), (x, (0, 2, 3, 0))], [(gy, (1, 0, 0, 7))], [(w, (0, 2, 1, 3))]):
        kept = [array[index] for array, index in poisoned]
        for array, index in poisoned:
            array[index] = bad
        for name, inputs, options in calls_of(x, w, b, gy, Geometry(padding=(1, 1))):
            want = getattr(reference, name).definition(*inputs, **options)
            got = run(implementation, name, inputs, options)
            lost = ~np.isfinite(want)
            assert not np.isfinite(got[lost]).any(), name
            pixels = (0, 1) if name == "backward_weight" else (1, 2)
            near = maximum_filter(lost, size=[13 if axis in pixels else 1 for axis in range(4)])
            assert not near.all()
            np.testing.assert_allclose(got[~near], want[~near], rtol=0, atol=1e-3, err_msg=name)
        for (array, index), value in zip(poisoned, kept):
            array[index] = value


# ------------------------------------------------------------------------------------- bands, threads, buffers
def assert_all_cases_agree(dtype, what, ladder=(LADDER[0],)):
    for case in cases_of("conv2d"):
        for name, (arrays, parameters) in case.calls.items():
            want = defined(name, arrays, parameters)
            for implementation in ladder:
                got = run(implementation, name, [cast(a, np.dtype(dtype).name) for a in arrays], parameters)
                assert_close(got, want, dtype, case.terms, f"{implementation}, {name}, {case.label}, {what}")


@pytest.mark.parametrize("band_bytes", [1, 3000])
def test_bands_of_any_height_give_the_same(monkeypatch, band_bytes):
    """The images of the cases fit into one band each; large ones do not. Here a band is one row, or a few."""
    monkeypatch.setattr(blocked, "BAND_BYTES", band_bytes)
    assert_all_cases_agree(np.float64, f"{band_bytes} bytes per band")


@pytest.mark.parametrize("threads", [1, 2, 3, 50])
def test_any_number_of_threads_gives_the_same(monkeypatch, threads):
    """More threads than images, too. How work is shared depends on this number only, not on how many there are."""
    monkeypatch.setattr(blocked, "BAND_BYTES", 3000)
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    assert_all_cases_agree(np.float32, f"{threads} threads")


def test_no_memory_is_read_before_it_is_written(monkeypatch):
    """Every buffer starts as NaN instead of whatever was there."""
    for dtype in (np.float32, np.float64):
        assert_all_cases_agree(dtype, "to have all compiled", LADDER)
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, np.nan, dtype))
    for dtype in (np.float32, np.float64):
        assert_all_cases_agree(dtype, "poisoned buffers", LADDER)


def test_nothing_is_written_beyond_a_result(monkeypatch):
    """`blocked` stores more columns than a run of pixels has, where the next run overwrites them."""
    rooms = []

    def in_the_middle(shape, dtype):
        size = math.prod(shape)
        rooms.append(np.full(size + 400, 7, dtype))
        return rooms[-1][200 : size + 200].reshape(shape)

    monkeypatch.setattr(blocked.memory, "empty", in_the_middle)
    assert_all_cases_agree(np.float32, "between two walls")
    assert len(rooms) > 100
    assert all((room[:200] == 7).all() and (room[-200:] == 7).all() for room in rooms)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 16, 17])
def test_the_sum_over_many_pixels_for_the_bias(channels, dtype):
    """More than the pixels that NumPy adds up; on one thread and on several; all channels, and a slice of them."""
    rng = np.random.default_rng(4)
    for size in ((1, 32, 33), (2, 40, 41), (5, 90, 91)):
        whole = rng.standard_normal((*size, channels + 2)).astype(dtype)
        for gy in (whole, whole[..., 1:-1], np.ascontiguousarray(whole[..., 1:-1])):
            want = gy.astype(np.float64).sum(axis=(0, 1, 2))
            assert_close(cpu.backward_bias(gy), want, dtype, gy.size, f"{gy.shape} {gy.flags.c_contiguous}")


def test_where_there_is_only_padding_the_output_is_the_bias():
    x, w, b = np.zeros((2, 0, 4, 3)), np.ones((3, 3, 3, 5)), np.arange(5.0)
    y = tn.conv2d(x, w, b, padding=2)
    np.testing.assert_array_equal(y, np.broadcast_to(b, (2, 2, 6, 5)))


@pytest.mark.parametrize("threads", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_real_threads_give_the_same_bits_in_every_run(threads):
    """In processes of their own, because Numba fixes its number of threads when it starts."""
    code = """
import hashlib
import numba
from test_conv2d import assert_all_cases_agree, blocked, cases_of, cast, cpu, np
blocked.BAND_BYTES = 3000
assert_all_cases_agree(np.float32, "")
for _ in range(2):
    digest = hashlib.sha256()
    for case in cases_of("conv2d"):
        for name, (arrays, parameters) in case.calls.items():
            digest.update(getattr(cpu, name)(*(cast(a, "float32") for a in arrays), **parameters).tobytes())
    print(numba.get_num_threads(), digest.hexdigest())
"""
    folders = [str(Path(__file__).parent), str(Path(tn.__file__).parents[1])]
    environment = {**os.environ, "NUMBA_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.split()[0] == threads


def test_the_same_bits_every_time():
    case = next(c for c in cases_of("conv2d") if "17 to 33" in c.label)
    for name, (arrays, parameters) in case.calls.items():
        arrays = [a.astype(np.float32) for a in arrays]
        first = getattr(cpu, name)(*arrays, **parameters)
        for _ in range(3):
            np.testing.assert_array_equal(getattr(cpu, name)(*arrays, **parameters), first)


# ------------------------------------------------------------------------------------- bad input
X, W = np.ones((8, 64, 64, 3), np.float32), np.ones((3, 3, 3, 32), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda: tn.conv2d(X, np.ones((3, 3, 16, 32), np.float32)),
            ValueError,
            "conv2d: weight (3, 3, 16, 32) expects 16 input channels, x (8, 64, 64, 3) has 3",
        ),
        (lambda: tn.conv2d(X[0], W), ValueError, "conv2d: x has shape (64, 64, 3); 4 axes (N, H, W, C) are needed"),
        (lambda: tn.conv2d(X, W[0]), ValueError, "conv2d: weight has shape (3, 3, 32); 4 axes"),
        (lambda: tn.conv2d(X, W, np.ones(31, np.float32)), ValueError, "conv2d: bias (31,) must have one value"),
        (lambda: tn.conv2d(X, W.astype(np.float64)), TypeError, "x is float32, weight is float64"),
        (lambda: tn.conv2d(X.astype(np.uint8), W), TypeError, "conv2d: x has dtype uint8; a floating-point one"),
        (lambda: tn.conv2d(X.tolist(), W), TypeError, "conv2d: x[0] is a list; a Tensor or an array is needed"),
        (lambda: tn.conv2d(X, W, groups=2), ValueError, "conv2d: groups 2 must divide the channels of x"),
        (lambda: tn.conv2d(X[:, :0], W), ValueError, "is larger than x (8, 0, 64, 3)"),
        (lambda: tn.conv2d(X, W, groups=0), ValueError, "conv2d: groups 0 must divide"),
        (lambda: tn.conv2d(X, W, stride=0), ValueError, "conv2d: stride is 0; it must be at least 1"),
        (lambda: tn.conv2d(X, W, padding=-1), ValueError, "conv2d: padding is -1; it must be at least 0"),
        (lambda: tn.conv2d(X, W, dilation=(1, 0)), ValueError, "conv2d: dilation is (1, 0); it must be at least 1"),
        (lambda: tn.conv2d(X, W, stride=1.5), ValueError, "conv2d: stride is 1.5; an integer or a pair (y, x)"),
        (lambda: tn.conv2d(X, W, stride=(1, 2, 3)), ValueError, "conv2d: stride is (1, 2, 3); an integer or a pair"),
        (
            lambda: tn.conv2d(X, W, dilation=32),
            ValueError,
            "conv2d: the kernel (3, 3) with dilation (32, 32) is larger than x (8, 64, 64, 3) with padding (0, 0)",
        ),
    ],
)
def test_error_sentences(call, error, sentence):
    with pytest.raises(error) as caught:
        call()
    assert sentence in str(caught.value)


# ------------------------------------------------------------------------------------- the table
def convolution(**changes):
    """A convolution that Winograd's versions can compute, with these changes."""
    usual = Convolution((3, 3), 64, 64, Geometry(padding=(1, 1)), np.dtype("float32"))
    return usual._replace(**changes)


@pytest.mark.parametrize(
    ("case", "wanted", "version"),
    [
        (convolution(), "winograd4", "winograd4"),
        (convolution(), "winograd2", "winograd2"),
        (convolution(), "naive", "naive"),
        (convolution(dtype=np.dtype("float64")), "winograd4", "blocked"),
        (convolution(geometry=Geometry(stride=(2, 2))), "winograd4", "blocked"),
        (convolution(c_in=3), "winograd4", "blocked"),
        (convolution(kernel_size=(1, 1), c_out=1, geometry=Geometry()), "winograd4", "pointwise"),
        (convolution(kernel_size=(1, 1), geometry=Geometry()), "pointwise", "blocked"),
        (convolution(kernel_size=(1, 1), c_out=1, geometry=Geometry()), "blocked", "blocked"),
    ],
)
def test_the_first_row_of_the_table_that_applies_is_chosen(case, wanted, version):
    assert choose(case, wanted) == version
    assert explain(case, wanted).startswith(f"{version} runs, for ")


# ------------------------------------------------------------------------------------- planted mistakes
def with_geometry(kernel, change):
    """`kernel` with another geometry than the one it is given."""
    return lambda first, second, size, geometry: kernel(first, second, size, change(geometry))


def ignoring(kernel, **values):
    """`kernel` that takes these values for a part of the geometry."""
    return with_geometry(kernel, lambda geometry: geometry._replace(**values))


MISTAKES = {
    "kernel flipped": ("forward", lambda x, w, b, *p: reference.forward(x, w[::-1, ::-1], b, *p)),
    "padding off by one": (
        "forward",
        lambda x, w, b, *p: reference.forward(np.roll(x, -1, axis=1), w, b, *p),
    ),
    "bias added twice": ("forward", lambda x, w, b, *p: reference.forward(x, w, b if b is None else 2 * b, *p)),
    "kernel flipped in backward_input": (
        "backward_input",
        lambda gy, w, *p: reference.backward_input(gy, w[::-1, ::-1], *p),
    ),
    "stride ignored in backward_input": ("backward_input", ignoring(reference.backward_input, stride=(1, 1))),
    "padding ignored in backward_input": ("backward_input", ignoring(reference.backward_input, padding=(0, 0))),
    "dilation ignored in backward_input": (
        "backward_input",
        ignoring(reference.backward_input, dilation=(1, 1)),
    ),
    "y and x exchanged in the stride": (
        "backward_input",
        with_geometry(reference.backward_input, lambda g: g._replace(stride=g.stride[::-1])),
    ),
    "stride ignored in backward_weight": ("backward_weight", ignoring(reference.backward_weight, stride=(1, 1))),
    "wrong padding in backward_weight": ("backward_weight", ignoring(reference.backward_weight, padding=(0, 1))),
    "mean for sum in the weight": (
        "backward_weight",
        lambda x, gy, *p: reference.backward_weight(x, gy, *p) / len(x),
    ),
    "mean for sum in the bias": ("backward_bias", lambda gy: reference.backward_bias(gy) / len(gy)),
    "bias of the last image only": ("backward_bias", lambda gy: reference.backward_bias(gy[-1:])),
    "a border row lost": ("backward_input", lambda gy, w, *p: border_lost(reference.backward_input(gy, w, *p))),
    "a scale wrong by 0.1 %": ("backward_weight", lambda x, gy, *p: 1.001 * reference.backward_weight(x, gy, *p)),
}


def border_lost(gx):
    gx[:, -1] = 0
    return gx


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_caught_by_the_comparison_and_by_the_gradient_check(mistake):
    name, wrong = MISTAKES[mistake]
    differs = inconsistent = False
    for case in cases_of("conv2d", large=False):
        if name not in case.calls:
            continue
        arrays, parameters = case.calls[name]
        want = defined(name, arrays, parameters)
        try:
            with tn.use_backend("reference"):
                actual = wrong(*arrays, *parameters.values())
            assert_close(actual, want, np.float64, case.terms, mistake)
        except AssertionError:
            differs = True
        else:
            continue  # this geometry hides the mistake
        try:
            with tn.use_backend("reference"), tn.use_kernels("conv2d", **{name: wrong}):
                gradcheck(case.function, case.inputs)
        except GradientError:
            inconsistent = True
            break
    assert differs, "the comparison with the reference does not notice"
    assert inconsistent, "the gradient check does not notice"


def test_the_right_kernels_pass_the_same_checks():
    for case in cases_of("conv2d", large=False)[:4]:
        for name, (arrays, parameters) in case.calls.items():
            want = defined(name, arrays, parameters)
            assert_close(getattr(cpu, name)(*arrays, **parameters), want, np.float64, case.terms, name)
        definitions = {name: getattr(reference, name).definition for name in ("forward", "backward_bias")}
        with tn.use_kernels("conv2d", **definitions):
            gradcheck(case.function, case.inputs)


# ------------------------------------------------------------------------------------- PyTorch
@pytest.mark.bench
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", cases_of("conv2d"), ids=lambda case: case.label)
def test_torch_agrees_forward_and_in_all_gradients(case, dtype):
    torch = pytest.importorskip("torch")
    x, w, b = (a.astype(dtype) for a in case.inputs)
    gy = case.calls["backward_bias"][0][0].astype(dtype)
    mine = [tn.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = case.function(*mine)
    y.backward(gy)

    leaf = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    geometry = case.calls["forward"][1]["geometry"]._asdict()
    their_y = torch.nn.functional.conv2d(
        leaf[0].permute(0, 3, 1, 2), leaf[1].permute(3, 2, 0, 1), leaf[2], **geometry
    ).permute(0, 2, 3, 1)
    their_y.backward(torch.tensor(gy))
    assert_close(y.numpy(), their_y.detach().numpy(), dtype, 2 * case.terms, "forward")
    for name, t, their in zip(["x", "w", "b"], mine, leaf):
        assert_close(t.grad.numpy(), their.grad.numpy(), dtype, 2 * case.terms, f"gradient of {name}")
