"""The element-wise and pooling kernels in CUDA: what the table of cases in test_ops.py does not reach.

Arrays that start between two multiples of 16 bytes, sizes around a multiple of four, rows longer than the grid is wide,
masks and sums that must agree to the last bit, special values in every version of a kernel.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from op_folders import checks, fetch, misaligned, on, place

from tinynet.backends.cuda.source import HEADERS
from tinynet.backends.launch import blocks, launch
from tinynet.backends.registry import implementation_kernel, implementations, use_backend
from tinynet.ops._cuda import elementwise as elementwise_cuda
from tinynet.ops._cuda.elementwise import THREADS, pack_width, row_grid
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.activations.cuda import SOURCE as ACTIVATIONS_CU
from tinynet.ops.activations.entries import ACTIVATIONS
from tinynet.ops.max_pool2d import cuda as max_pool2d

TIERS = pytest.mark.parametrize("tier", [on(tier, tier) for tier in ("cuda-sim", "cuda")])
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 80.0, -80.0], np.float32)


def run(op, name, tier, *arrays, implementation=None, **parameters):
    """What a kernel returns for NumPy arrays, or those of another tier, in NumPy; the emulator shuffles the threads."""
    function = implementation_kernel(op, name, tier, implementation)
    with checks(tier, "shuffled"):
        return fetch(function(*arrays, **parameters))


def random(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


# ------------------------------------------------------------------------------------ element by element
@TIERS
@pytest.mark.parametrize("op", ACTIVATIONS)
def test_misaligned_arrays_give_the_same_bits(op, tier):
    parameters = ACTIVATIONS[op].parameters[0]
    x = np.concatenate([random(1030), SPECIAL])
    gy, y = np.cos(np.arange(x.size)).astype(np.float32), run(op, "forward", "reference", x, **parameters)
    for name, arrays in {"forward": (x,), "backward": (gy, y)}.items():
        aligned = run(op, name, tier, *(place(a, tier) for a in arrays), **parameters)
        np.testing.assert_array_equal(
            run(op, name, tier, *(misaligned(a, tier) for a in arrays), **parameters), aligned
        )
        one_of_both = (misaligned(arrays[0], tier), *(place(a, tier) for a in arrays[1:]))
        np.testing.assert_array_equal(run(op, name, tier, *one_of_both, **parameters), aligned)


@TIERS
@pytest.mark.parametrize("op", ACTIVATIONS)
def test_few_units_in_the_last_place_over_the_whole_range(op, tier):
    parameters = ACTIVATIONS[op].parameters[0]
    tiny = np.geomspace(1e-30, 1, 1001)
    x = np.concatenate([np.linspace(-87, 87, 4001), tiny, -tiny]).astype(np.float32)
    expected = run(op, "forward", "reference", x.astype(np.float64), **parameters)
    actual = run(op, "forward", tier, place(x, tier), **parameters)
    assert actual.dtype == np.float32
    assert np.max(np.abs(actual - expected) / np.spacing(np.abs(expected).astype(np.float32))) < 4


@TIERS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ACTIVATIONS)
def test_special_values_come_out_as_in_the_reference(op, tier, dtype):
    parameters = ACTIVATIONS[op].parameters[0]
    with np.errstate(all="ignore"):
        x = SPECIAL.astype(dtype)
        y = run(op, "forward", "reference", x, **parameters)
        np.testing.assert_allclose(
            run(op, "forward", tier, place(x, tier), **parameters), y, rtol=4 * np.finfo(dtype).eps
        )
        gy = np.full_like(x, 2)
        expected = run(op, "backward", "reference", gy, y, **parameters)
        np.testing.assert_allclose(
            run(op, "backward", tier, place(gy, tier), place(y, tier), **parameters), expected, rtol=1e-6
        )


@TIERS
@pytest.mark.parametrize("size", [1, 3, 4, 5, 1023, 1024, 1025])
def test_the_end_of_an_array_and_nothing_behind_it(size, tier):
    """The result is the middle of an array whose other elements must stay."""
    memory = place(np.full(size + 8, 7, np.float32), tier)
    x = random(size)
    here, y = place(x, tier), memory[4 : size + 4]
    width = pack_width(here, y)
    with use_backend(tier), checks(tier, "reversed"):
        launch(ACTIVATIONS_CU, "relu_forward", blocks(size, width * THREADS), THREADS, here, y, size, WIDTH=width)
    np.testing.assert_array_equal(fetch(memory), np.concatenate([[7] * 4, np.maximum(x, 0), [7] * 4]))


# ------------------------------------------------------------------------------------ dropout
@TIERS
@pytest.mark.parametrize("p", [0.0, 1e-12, 0.1, 0.5, 0.999, 1 - 2**-34])
def test_the_mask_is_that_of_the_reference_to_the_last_bit(p, tier):
    """For the last one p 2^32 is rounded to 2^32, which no 32-bit number reaches: every element is dropped."""
    mask = {"p": p, "seed": 2**32 - 5, "stream": 3, "step": 2**40 + 1}
    x = random(4 * 300 + 3)
    expected = run("dropout", "forward", "reference", x, **mask)
    np.testing.assert_array_equal(run("dropout", "forward", tier, place(x, tier), **mask), expected)
    np.testing.assert_array_equal(run("dropout", "forward", tier, misaligned(x, tier), **mask), expected)
    in_double = run("dropout", "forward", tier, place(x.astype(np.float64), tier), **mask)
    np.testing.assert_array_equal(in_double == 0, expected == 0)


@TIERS
def test_a_word_equal_to_the_threshold_is_kept(tier):
    mask = {"seed": 0, "stream": 0, "step": 0}
    p = 0x6627E8D5 / 2**32  # the first word for a key and counter of zeros; kept, as word >= p 2^32
    x = np.ones(5, np.float32)
    for dtype in (np.float32, np.float64):
        assert run("dropout", "forward", tier, place(x.astype(dtype), tier), p=p, **mask)[0] > 0
        assert run("dropout", "forward", tier, place(x.astype(dtype), tier), p=p + 2**-32, **mask)[0] == 0


# ------------------------------------------------------------------------------------ rows
@TIERS
@pytest.mark.parametrize("channels", [4, 6, 40])
def test_rows_longer_than_the_grid_is_wide(channels, tier, monkeypatch):
    """With a limit of one small block across, threads take the rest of a row in turns."""
    for module in (elementwise_cuda, max_pool2d):
        monkeypatch.setattr(module, "THREADS", 4)
        monkeypatch.setattr(module, "MOST_BLOCKS_ACROSS", 1)
    wide = random(5, 3, 2 * channels)
    left, right = place(wide, tier)[..., :channels], place(wide, tier)[..., channels:]
    np.testing.assert_array_equal(run("concat", "forward", tier, right, left, axis=2), np.roll(wide, channels, axis=2))
    total = wide[..., :channels] + wide[..., channels:]
    np.testing.assert_array_equal(run("accumulate", "add", tier, left, right), total)
    x = random(2, 6, 14, channels)
    y, indices = run("max_pool2d", "forward", tier, place(x, tier), (2, 2), Geometry((2, 2)))
    np.testing.assert_array_equal(y, x.reshape(2, 3, 2, 7, 2, channels).max(axis=(2, 4)))
    np.testing.assert_array_equal(run("max_pool2d", "gather", tier, place(x, tier), place(indices, tier)), y)
    plane = {"size": (6, 14), "cell": (2, 2)}
    scattered = run("max_pool2d", "scatter", tier, place(y, tier), place(indices, tier), **plane)
    np.testing.assert_array_equal(scattered, np.where(x == y.repeat(2, axis=1).repeat(2, axis=2), x, 0))


def test_threads_of_a_block_share_rows():
    assert row_grid(rows=1000, items=4) == ((16, 1), (4, 64))
    assert row_grid(rows=10, items=5) == ((1, 1), (5, 51))
    assert row_grid(rows=3, items=1000) == ((3, 4), (256, 1))
    assert row_grid(rows=1, items=10**9) == ((1, 65535), (256, 1))


def test_packs_of_four_only_where_all_of_them_are_aligned():
    x = np.zeros(64, np.float32)
    x = x[-(x.__array_interface__["data"][0] // 4) % 4 :]
    assert pack_width(x, x[4:]) == 4
    assert pack_width(x, x[1:]) == 1
    assert pack_width(x, multiples=(16, 8)) == 4
    assert pack_width(x, multiples=(16, 6)) == 1
    assert pack_width(x.astype(np.float64)) == 1


# ------------------------------------------------------------------------------------ the largest of several
@TIERS
def test_the_first_nan_of_a_maxout_unit_wins(tier):
    x = np.array([[1, np.nan, np.nan], [np.nan, 3, np.nan], [2, 1, np.nan], [1, 2, 2]], np.float32)
    y, winner = run("maxout", "forward", tier, place(x, tier), pieces=3)
    np.testing.assert_array_equal(y[:, 0], [np.nan, np.nan, np.nan, 2])
    np.testing.assert_array_equal(winner[:, 0], [1, 0, 2, 1])


@TIERS
@pytest.mark.parametrize("channels", [4, 5])
def test_ties_and_nan_in_every_version(channels, tier):
    """With four channels the version for packs runs, with five the one for single numbers."""
    x = np.random.default_rng(1).integers(0, 3, (2, 7, 9, channels)).astype(np.float32)
    x[x == 2] = np.nan
    x[0, :3, :3] = -np.inf
    windows = {"kernel_size": (3, 2), "geometry": Geometry(stride=(2, 2), padding=(1, 1))}
    for actual, expected in zip(
        run("max_pool2d", "forward", tier, place(x, tier), **windows),
        run("max_pool2d", "forward", "reference", x, **windows),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, expected)


@TIERS
@pytest.mark.parametrize("implementation", implementations("max_pool2d", "cuda"))
@pytest.mark.parametrize("kind", ["windows overlap", "anywhere"])
def test_sums_are_added_in_the_order_of_the_reference(kind, implementation, tier):
    """To the last bit, in a shuffled order of threads: numbers of very different size would show any other order."""
    rng = np.random.default_rng(2)
    if kind == "windows overlap":
        x = rng.standard_normal((2, 9, 11, 3)).astype(np.float32)
        _, indices = run("max_pool2d", "forward", "reference", x, (4, 4), Geometry())
    else:
        indices = rng.integers(0, 9 * 11, (2, 6, 8, 3), np.int32)
    g = (rng.standard_normal(indices.shape) * 10.0 ** rng.integers(-4, 5, indices.shape)).astype(np.float32)
    expected = run("max_pool2d", "scatter", "reference", g, indices, size=(9, 11))
    placed = place(g, tier), place(indices, tier)
    actual = run("max_pool2d", "scatter", tier, *placed, size=(9, 11), implementation=implementation)
    np.testing.assert_array_equal(actual, expected)


# ------------------------------------------------------------------------------------ numbers that do not fit
def test_the_number_of_a_thread_has_64_bits():
    """blockIdx.x * blockDim.x is a product of 32-bit numbers: beyond 2^32 elements it begins again at 0.

    Grids have at most 65,535 blocks in y and z.
    """
    files = [*HEADERS.rglob("*.cu"), *HEADERS.rglob("*.cuh")]
    product = re.compile(r"(?<!\(size_t\))\bblockIdx\.x\s*\*|\b(?:int|u32|unsigned) \w+ = thread_number\(\)")
    found = [f"{file.name}: {line.strip()}" for file in files for line in file.open() if product.search(line)]
    assert len(files) > 20 and not found, found


@pytest.mark.parametrize("tier", ["reference", "cpu", *[on(tier, tier) for tier in ("cuda-sim", "cuda")]])
def test_squares_of_float32_gradients_are_summed_in_float64(tier):
    """The square of 1e25 is no float32, and 1e8 + 1 is 1e8 there."""
    g = np.array([1e25, 1e25], np.float32), np.array([1e4] + [1.0] * 100, np.float32)
    for gradients, expected in ((g[:1], 2e50), (g[1:], 100_000_100.0)):
        actual = run("gradient_norm", "sum_of_squares", tier, [place(a, tier) for a in gradients])
        assert float(np.asarray(actual)) == pytest.approx(expected, rel=1e-7)
