"""conv2d in CUDA: what the table of cases in test_ops.py does not reach.

Sizes drawn at random, arrays between two multiples of 16 bytes, sums cut into any number of parts, long sums, numbers
that are not finite, the epilogue, and the choice of a version.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_folders import assert_close, checks, fetch, misaligned, on, place

from tinynet.backends.registry import implementation_kernel, implementations
from tinynet.ops._shared.epilogue import Epilogue
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.conv2d import cuda, reference

TIERS = pytest.mark.parametrize("tier", [on(tier, tier) for tier in ("cuda-sim", "cuda")])
EXACT = ("blocked", "tiled", "naive")  # in float32; tf32 rounds the factors
MULTIPLIERS = pytest.mark.parametrize("implementation", ["blocked", "tf32"])


def run(tier, implementation, name, *arrays, op="conv2d", **parameters):
    """What a kernel returns for NumPy arrays, in NumPy; in the emulator with all checks and shuffled threads."""
    with checks(tier, "shuffled"):
        return run_unchecked(tier, implementation, name, *arrays, op=op, **parameters)


def run_unchecked(tier, implementation, name, *arrays, op="conv2d", **parameters):
    """As `run`, without the emulator's checks."""
    function = implementation_kernel(op, name, tier, implementation)
    return fetch(function(*(place(a, tier) for a in arrays), **parameters))


def random(*shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def calls_of(x, w, b, gy, geometry):
    """The three kernels that take a geometry, with their arrays and parameters."""
    return [
        ("forward", (x, w, b), {"geometry": geometry}),
        ("backward_input", (gy, w), {"input_size": x.shape[1:3], "geometry": geometry}),
        ("backward_weight", (x, gy), {"kernel_size": w.shape[:2], "geometry": geometry}),
    ]


# ------------------------------------------------------------------------------------- sizes
@st.composite
def layers(draw):
    """x, w, b, gy and a geometry, in which anything may be small, odd or larger than something else."""
    kernel, stride, padding, dilation = (
        draw(st.tuples(st.integers(low, high), st.integers(low, high)))
        for low, high in ((1, 4), (1, 3), (0, 3), (1, 3))
    )
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    geometry = Geometry(stride, padding, dilation, groups)
    channels = st.sampled_from([1, 3, 4, 5, 8, 12, 20, 33, 68])
    i_group, o_group = draw(channels), draw(channels)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding)]
    size = tuple(draw(st.integers(n, n + 9)) for n in least)
    images = draw(st.integers(1, 2))
    x, w = random(images, *size, i_group * groups, seed=0), random(*kernel, i_group, o_group * groups, seed=1)
    out = geometry.output_size(size, kernel)
    gy, b = random(images, *out, o_group * groups, seed=2), random(o_group * groups, seed=4)
    return x, w, b, gy, geometry


@TIERS
@settings(deadline=None, max_examples=8)
@given(layers())
def test_any_size_agrees_with_the_reference(tier, layer):
    x, w, b, gy, geometry = layer
    for name, arrays, parameters in calls_of(x, w, b, gy, geometry):
        expected = getattr(reference, name).definition(*(a.astype(np.float64) for a in arrays), **parameters)
        terms = max(w.size // w.shape[3], w.size // w.shape[2], gy.size // gy.shape[3])
        for implementation in EXACT:
            actual = run(tier, implementation, name, *arrays, **parameters)
            assert_close(
                actual, expected, np.float32, terms, f"{implementation}, {name}, x {x.shape}, w {w.shape}, {geometry}"
            )


@TIERS
@MULTIPLIERS
def test_misaligned_arrays_give_the_same_bits(tier, implementation):
    if tier == "cuda":
        pytest.skip("the addresses of copies on a GPU are not ours to choose")
    x, w, b, gy = random(1, 9, 9, 8), random(3, 3, 8, 12), random(12), random(1, 9, 9, 12)
    for name, arrays, parameters in calls_of(x, w, b, gy, Geometry(padding=(1, 1))):
        expected = run(tier, implementation, name, *arrays, **parameters)
        for i in range(len(arrays)):
            mixed = [misaligned(a) if i == j else a for j, a in enumerate(arrays)]
            actual = run(tier, implementation, name, *mixed, **parameters)
            np.testing.assert_array_equal(actual, expected, err_msg=f"{name}, argument {i}")


@TIERS
@MULTIPLIERS
def test_tf32_loses_digits_of_the_factors_only(tier, implementation):
    """Factors of ten bits are exact in TF32; then both multipliers must agree with the definition in float32."""
    x, w, b, gy = (
        np.round(a * 32) / 32 for a in (random(2, 9, 7, 20), random(3, 3, 20, 40), random(40), random(2, 9, 7, 40))
    )
    for name, arrays, parameters in calls_of(x, w, b, gy, Geometry(padding=(1, 1))):
        expected = getattr(reference, name).definition(*(a.astype(np.float64) for a in arrays), **parameters)
        actual = run(tier, implementation, name, *arrays, **parameters)
        assert_close(actual, expected, np.float32, 9 * 40, f"{implementation}, {name}")


# ------------------------------------------------------------------------------------- long sums
@TIERS
@MULTIPLIERS
@pytest.mark.parametrize("parts", [1, 2, 7, 1000])
def test_sums_over_pixels_in_any_number_of_parts(tier, implementation, parts, monkeypatch):
    monkeypatch.setattr(cuda, "ENOUGH_BLOCKS", parts)
    monkeypatch.setattr(cuda, "FEWEST_PIXELS", 8)
    x, gy = np.round(random(3, 13, 11, 5) * 32) / 32, np.round(random(3, 13, 10, 3) * 32) / 32
    expected = reference.backward_weight(
        x.astype(np.float64), gy.astype(np.float64), kernel_size=(1, 2), geometry=Geometry()
    )
    actual = run(tier, implementation, "backward_weight", x, gy, kernel_size=(1, 2), geometry=Geometry())
    assert_close(actual, expected, np.float32, 3 * 13 * 10, f"{parts} parts")
    actual = run(tier, implementation, "backward_bias", gy)
    assert_close(actual, gy.sum(axis=(0, 1, 2), dtype=np.float64), np.float32, 1, f"{parts} parts")


@TIERS
def test_long_sums_keep_their_digits(tier):
    """A quarter of a million equal terms: added up one by one in float32 they would lose three digits.

    The emulator's checks are off: with them, the test would take a minute.
    """
    x, gy = np.full((1, 512, 512, 1), 0.1, np.float32), np.full((1, 512, 512, 3), 0.1, np.float32)
    n, tenth = 512 * 512, np.float64(np.float32(0.1))
    np.testing.assert_allclose(run_unchecked(tier, "blocked", "backward_bias", gy), n * tenth, rtol=1e-7)
    gw = run_unchecked(tier, "blocked", "backward_weight", x, gy, kernel_size=(1, 1), geometry=Geometry())
    np.testing.assert_allclose(gw, n * tenth * tenth, rtol=1e-5)


@TIERS
@pytest.mark.parametrize("channels", [1, 3, 255, 256, 257, 600])
def test_bias_of_any_number_of_channels(tier, channels):
    gy = random(2, 17, 5, channels)
    actual = run(tier, "blocked", "backward_bias", gy)
    assert_close(actual, gy.sum(axis=(0, 1, 2), dtype=np.float64), np.float32, 1, f"{channels} channels")


# ------------------------------------------------------------------------------------- special values
@TIERS
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("implementation", [*EXACT, "tf32"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_reaches_what_reads_it(tier, stride, implementation, bad):
    """A fast version may multiply it with the zeros of the padding, too, and make NaN at the border of the image."""
    x, w, b = random(2, 7, 9, 5), random(3, 3, 5, 18), random(18)
    geometry = Geometry(stride=(stride, stride), padding=(1, 1))
    gy = random(*reference.forward.definition(x, w, b, geometry).shape)
    for array, index in ((x, (1, 6, 8, 4)), (x, (0, 2, 3, 0)), (gy, (1, 0, 0, 7)), (w, (0, 2, 1, 3))):
        kept, array[index] = array[index], bad
        for name, arrays, parameters in calls_of(x, w, b, gy, geometry):
            expected = getattr(reference, name).definition(*arrays, **parameters)
            actual = run(tier, implementation, name, *arrays, **parameters)
            finite = np.isfinite(actual)
            assert not finite[~np.isfinite(expected)].any(), name
            meets_padding = array is w if name != "backward_weight" else array is gy
            if not meets_padding or implementation == "naive":
                np.testing.assert_array_equal(actual[~finite], expected[~finite], err_msg=name)
            np.testing.assert_allclose(actual[finite], expected[finite], rtol=0, atol=0.05, err_msg=name)
        array[index] = kept


# ------------------------------------------------------------------------------------- the epilogue, the choice
@TIERS
@pytest.mark.parametrize("implementation", implementations("conv2d", "cuda-sim"))
@pytest.mark.parametrize("channels", [3, 4, 33])
def test_the_epilogue_is_elu_and_dropout(tier, implementation, channels):
    x, w, b = random(2, 9, 7, 6), random(3, 3, 6, channels), random(channels)
    epilogue = Epilogue(alpha=0.7, p=0.4, seed=11, stream=2, step=2**33 + 5)
    geometry, mask = Geometry(padding=(1, 1)), dict(zip(("p", "seed", "stream", "step"), epilogue[1:]))
    fused = run(tier, implementation, "forward", x, w, b, geometry=geometry, epilogue=epilogue)
    z = run(tier, implementation, "forward", x, w, b, geometry=geometry)
    e = run(tier, None, "forward", z, op="elu", alpha=0.7)
    y = run(tier, None, "forward", e, op="dropout", **mask)
    np.testing.assert_array_equal(fused == 0, y == 0)
    np.testing.assert_allclose(fused, y, rtol=1e-6)

    gy = random(*y.shape, seed=5)
    g = run(tier, None, "forward", gy, op="dropout", **mask)
    gz = run(tier, None, "backward", g, y * np.float32(0.6), op="elu", alpha=0.7)
    actual = run(tier, None, "backward", gy, y, op="conv_elu_dropout", epilogue=epilogue)
    np.testing.assert_array_equal(actual == 0, gz == 0)
    np.testing.assert_allclose(actual, gz, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "kernel", "geometry", "dtype", "chosen"),
    [
        ("blocked", "forward", Geometry(stride=(2, 2), groups=2), "float32", "blocked"),
        ("blocked", "forward", Geometry(), "float64", "naive"),
        ("tf32", "backward_weight", Geometry(), "float32", "tf32"),
        ("tf32", "backward_weight", Geometry(), "float64", "naive"),
        ("tiled", "forward", Geometry(), "float64", "tiled"),
        ("tiled", "forward", Geometry(stride=(1, 2)), "float32", "naive"),
        ("tiled", "backward_input", Geometry(groups=2), "float32", "naive"),
        ("tiled", "backward_weight", Geometry(), "float32", "naive"),
        ("naive", "forward", Geometry(), "float32", "naive"),
    ],
)
def test_naive_stands_in_for_what_a_version_does_not_cover(asked, kernel, geometry, dtype, chosen):
    sizes = cuda.Sizes.of((2, 9, 9, 4), (3, 3), (2, *geometry.output_size((9, 9), (3, 3)), 6), geometry)
    assert cuda.choose(asked, kernel, sizes, np.dtype(dtype)) == chosen


def test_blocked_leaves_empty_sums_and_the_largest_images_to_naive():
    for shape, chosen in (
        ((0, 9, 9, 4), "naive"),
        ((2**16, 2**8, 2**7, 1), "naive"),
        ((2**15, 2**8, 2**7, 1), "blocked"),
    ):
        sizes = cuda.Sizes.of(shape, (1, 1), (*shape[:3], 6), Geometry())
        assert cuda.choose("blocked", "backward_weight", sizes, np.dtype(np.float32)) == chosen
