"""Dropout and Philox: known answers, rates, independence of the masks, one mask on every tier, planted mistakes."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinynet as tn
from tinynet.backends.numba.jit import jit
from tinynet.backends.registry import implementation_kernel, use_backend
from tinynet.engine.tensor import Function
from tinynet.learn.gradcheck import GradientError, check_reference, gradcheck
from tinynet.ops._cpu.philox import draw_words, philox4x32
from tinynet.ops.dropout import cpu, reference
from tinynet.ops.dropout.op import Dropout

forward = {tier: implementation_kernel("dropout", "forward", tier) for tier in ("reference", "cpu")}


# ------------------------------------------------------------------------------------ Philox
#  counter                                           key                     answer
KNOWN = [  # the known-answer vectors that the authors of Philox publish with their library Random123
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@jit
def philox_compiled(c0, c1, c2, c3, k0, k1):
    return philox4x32(c0, c1, c2, c3, k0, k1)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    in_numpy = reference._philox4x32([np.uint64(c) for c in counter], key)
    in_numba = philox_compiled(*(np.uint64(word) for word in (*counter, *key)))
    for words in (in_numpy, in_numba):
        assert " ".join(f"{int(word):08x}" for word in words) == answer


@pytest.mark.parametrize("first_block", [0, 5, 2**32 - 2])
def test_block_number_fills_two_words_of_the_counter(first_block):
    """Element index 2^34 and beyond: the fast tier has to carry into the second word."""
    seed, stream, step = 17, 2**32 - 1, 2**33 + 5
    words = np.empty(16, np.uint32)
    draw_words(first_block, np.uint64(step), np.uint64(seed), np.uint64(stream), words)
    for b in range(4):
        block = first_block + b
        counter = [np.uint64(v) for v in (block % 2**32, block // 2**32, step % 2**32, step // 2**32)]
        np.testing.assert_array_equal(
            words[4 * b : 4 * b + 4], np.array(reference._philox4x32(counter, (seed, stream)))
        )


def test_words_are_uniform():
    n = 2**20
    words = np.empty(n, np.uint32)
    draw_words(0, np.uint64(3), np.uint64(1), np.uint64(2), words)
    share_of_ones = [np.mean((words >> bit) & 1) for bit in range(32)]
    np.testing.assert_allclose(share_of_ones, 0.5, atol=5 * 0.5 / np.sqrt(n))
    for values in (words >> 24, words & 255):  # chi-square of 256 boxes: mean 255, standard deviation 22.6
        counts = np.bincount(values, minlength=256)
        assert abs(np.sum((counts - n / 256) ** 2) / (n / 256) - 255) < 5 * 22.6


# ------------------------------------------------------------------------------------ masks
@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.95])
def test_rate_and_scale_on_ten_million_draws(p):
    n = 10_000_000
    y = forward["cpu"](np.ones(n, np.float32), p=p, seed=4, stream=5, step=6)
    kept = y != 0
    np.testing.assert_array_equal(np.unique(y[kept]), [np.float32(1 / (1 - p))])
    five_sigma = 5 * np.sqrt(p * (1 - p) / n)
    assert abs(np.mean(~kept) - p) < five_sigma
    assert abs(np.mean(y, dtype=np.float64) - 1) < five_sigma / (1 - p)
    for channel in range(16):  # as in (..., 16): no channel is dropped more often than another
        assert abs(np.mean(~kept[channel::16]) - p) < 4 * five_sigma


def mask(seed=10, stream=20, step=30, n=2**17):
    """+1 where kept, -1 where dropped, p = 0.5."""
    return np.sign(forward["cpu"](np.ones(n), p=0.5, seed=seed, stream=stream, step=step) - 0.5)


def largest_correlation(a, b):
    """The largest |correlation| of a with b shifted by any lag, in standard deviations of independent masks."""
    correlations = np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)), len(a))
    if a is b:
        correlations[0] = 0
    return np.max(np.abs(correlations)) / np.sqrt(len(a))


ALL_LAGS = 6.5  # of 131072 independent normal numbers the largest is about 5; 6.5 is passed once in 10^5 tries


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 11},
        {"stream": 21},
        {"step": 31},
        {"seed": 20, "stream": 10},
        {"seed": 11, "step": 29},
        {"step": 30 + 2**32},
    ],
)
def test_masks_are_independent_at_every_lag(other):
    assert largest_correlation(mask(), mask(**other)) < ALL_LAGS


def test_elements_of_a_mask_are_independent():
    one = mask()
    assert largest_correlation(one, one) < ALL_LAGS


def test_a_seed_that_is_the_other_shifted_would_be_noticed():
    one = mask()
    assert largest_correlation(one, np.roll(one, 1)) > ALL_LAGS
    assert largest_correlation(one, np.concatenate([np.roll(one[:3000], 4), mask(seed=12)[3000:]])) > ALL_LAGS


@settings(deadline=None, max_examples=30)
@given(
    shape=st.lists(st.integers(0, 6), max_size=4).map(tuple),
    p=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**32 - 1),
    stream=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**64 - 1),
)
def test_one_mask_on_every_tier_and_dtype(shape, p, seed, stream, step):
    key = {"p": p, "seed": seed, "stream": stream, "step": step}
    masks = [forward[tier](np.ones(shape, dtype), **key) != 0 for tier in forward for dtype in (np.float32, np.float64)]
    for other in masks[1:]:
        np.testing.assert_array_equal(masks[0], other)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1023, 1024, 1025, 4099])
def test_longer_arrays_continue_the_mask(size):
    """Element i has its word whatever the size; sizes around the chunk of the fast tier."""
    key = {"p": 0.4, "seed": 1, "stream": 2, "step": 3}
    whole = forward["reference"](np.ones(5000), **key)
    for tier in forward:
        np.testing.assert_array_equal(forward[tier](np.ones(size), **key), whole[:size])


@jit
def in_ranges(x, cuts, mask, y):
    for i in range(cuts.size - 1):
        cpu.forward_range(x, cuts[i], cuts[i + 1], mask, y)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranges_that_start_anywhere_make_the_same_mask(dtype, in_place):
    """What other kernels call: any cut, blocks of four cut through, ranges longer than a chunk of words, none left."""
    x = np.random.default_rng(0).standard_normal(5000).astype(dtype)
    expected = forward["cpu"](x, p=0.4, seed=1, stream=2, step=3)
    y = x if in_place else np.full_like(x, np.nan)
    cuts = np.array([0, 1, 6, 6, 8, 11, 1035, 3999, 4001, 5000])
    in_ranges(x, cuts, cpu.Mask.of(0.4, 1, 2, 3, 0, np.dtype(dtype)), y)
    np.testing.assert_array_equal(y, expected)


def test_mask_follows_the_c_order_of_the_elements_not_of_the_memory():
    key = {"p": 0.5, "seed": 1, "stream": 2, "step": 3}
    x = np.ones((6, 7, 8), np.float32)
    for tier in forward:
        np.testing.assert_array_equal(forward[tier](np.asfortranarray(x), **key), forward[tier](x, **key))


def test_same_bits_on_one_thread():
    x = np.random.default_rng(0).standard_normal(100_003).astype(np.float32)
    key = {"p": 0.3, "seed": 1, "stream": 2, "step": 3}
    many = forward["cpu"](x, **key)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        np.testing.assert_array_equal(forward["cpu"](x, **key), many)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize("tier", list(forward))
def test_p_0_is_the_identity_and_dropped_is_0_whatever_it_was(tier):
    key = {"seed": 1, "stream": 2, "step": 3}
    x = np.array([1.5, np.nan, np.inf, -np.inf] * 8, np.float32)
    np.testing.assert_array_equal(forward[tier](x, p=0.0, **key), x)
    kept = forward[tier](np.ones_like(x), p=0.5, **key) != 0
    np.testing.assert_array_equal(forward[tier](x, p=0.5, **key), np.where(kept, 2 * x, 0))


# ------------------------------------------------------------------------------------ on Tensors
@pytest.mark.parametrize("tier", list(forward))
def test_backward_draws_the_mask_again(tier):
    x = tn.tensor(np.ones((5, 7), np.float32), requires_grad=True)
    with use_backend(tier):
        y = tn.dropout(x, 0.4, seed=1, stream=2, step=3)
        y.sum().backward()
    assert 0 < np.count_nonzero(y.data) < y.size
    np.testing.assert_array_equal(x.grad.data, y.data)


def test_nothing_is_stored_for_backward():
    x = tn.tensor(np.ones((5, 7)), requires_grad=True)
    assert tn.dropout(x, 0.4, seed=1, stream=2, step=3).creator.saved == ()


def test_reference_by_complex_step():
    key = {"p": 0.3, "seed": 1, "stream": 2, "step": 3}
    x = np.random.default_rng(0).standard_normal((3, 5))
    dropout = forward["reference"]
    check_reference(lambda x: dropout(x, **key), lambda gy, x: dropout(gy, **key), (x,))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"p": 1.0}, ValueError, "dropout: p is 1.0; the probability of dropping must satisfy 0 <= p < 1"),
        ({"p": -0.1}, ValueError, "dropout: p is -0.1"),
        ({"p": float("nan")}, ValueError, "dropout: p is nan"),
        ({"seed": -1}, ValueError, r"dropout: seed is -1; it must lie in 0 .. 2\*\*32 - 1"),
        ({"stream": 2**32}, ValueError, "dropout: stream is 4294967296"),
        ({"step": 2**64}, ValueError, r"dropout: step is 18446744073709551616; it must lie in 0 .. 2\*\*64 - 1"),
        ({"step": 1.0}, TypeError, "dropout: step is 1.0; an integer is needed"),
        ({"x": np.arange(3)}, TypeError, "dropout: x has dtype int64; a floating-point one is needed"),
    ],
)
def test_errors_name_the_argument(arguments, error, message):
    good = {"x": np.ones(3), "p": 0.5, "seed": 1, "stream": 2, "step": 3}
    with pytest.raises(error, match=message):
        tn.dropout(**{**good, **arguments})


# ------------------------------------------------------------------------------------ planted mistakes
KEY = {"p": 0.4, "seed": 1, "stream": 2, "step": 3}


class _Wrong(Function):
    def forward(self, x):
        return forward["cpu"](x, **KEY)


class Unscaled(_Wrong):
    def backward(self, gy):
        return forward["cpu"](gy, **KEY) * (1 - KEY["p"])


class AnotherMask(_Wrong):
    def backward(self, gy):
        return forward["cpu"](gy, **{**KEY, "step": KEY["step"] + 1})


class IgnoresGy(_Wrong):
    def backward(self, gy):
        return forward["cpu"](np.ones_like(gy), **KEY)


def test_gradcheck_finds_the_typical_mistakes():
    x = np.random.default_rng(0).standard_normal((4, 6))
    gradcheck(lambda x: Dropout.apply(x, **KEY), (x,))
    for mistake in (Unscaled, AnotherMask, IgnoresGy):
        with pytest.raises(GradientError):
            gradcheck(mistake.apply, (x,))
