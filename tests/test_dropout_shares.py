"""Shares of a batch get their rows of the mask of the whole batch: `first` of dropout and of the fused convolution."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from op_folders import fetch, on, place

import tinynet as tn
from tinynet.backends.registry import implementation_kernel, implementations, use_backend
from tinynet.ops._shared.epilogue import Epilogue
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.conv_elu_dropout.op import conv_elu_dropout
from tinynet.ops.dropout import reference

KEY = {"p": 0.4, "seed": 2**31 + 7, "stream": 3, "step": 2**33 + 5}
ALL_TIERS = [on(tier, tier) for tier in ("reference", "cpu", "cuda-sim", "cuda")]
CONVOLUTIONS = [
    on(t, t, name) for t in ("reference", "cpu", "cuda-sim", "cuda") for name in implementations("conv2d", t)
]
SIZES = st.tuples(st.integers(1, 7), st.integers(0, 9), st.integers(1, 5))
# Not all are multiples of 4: around 2^34, where the second word of the counter begins to change, and the largest.
FIRST = (1, 2, 3, 4, 2**34 - 6, 2**34 - 4, 2**34 + 3, 2**63 - 1)


def shares(samples: int, cuts: set[int]) -> list[slice]:
    """The samples, cut there."""
    ends = [0, *sorted(cut for cut in cuts if cut < samples), samples]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def random(*shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_equal_bits(actual, expected):
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    assert actual.tobytes() == np.ascontiguousarray(expected).tobytes()


# ---------------------------------------------------------------------------------------- dropout
@settings(deadline=None)
@given(first=st.integers(0, 2**63 - 1), skipped=st.integers(0, 9), size=st.integers(0, 9))
@example(first=2**34 - 3, skipped=1, size=9)
def test_the_words_of_the_reference_continue(first, skipped, size):
    """Word number n is the same wherever the array begins."""
    key = (1, 2, 3)
    first = min(first, 2**63 - 1 - skipped)
    longer = reference._words(skipped + size, *key, first)
    np.testing.assert_array_equal(reference._words(size, *key, first + skipped), longer[skipped:])


def dropped_and_gradient(x, **mask):
    x = tn.tensor(x, requires_grad=True)
    y = tn.dropout(x, **mask)
    y.backward(tn.tensor(np.cos(np.arange(1, x.size + 1, dtype=x.dtype)).reshape(x.shape)))
    return y.numpy(), x.grad.numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tier", ALL_TIERS[:3])
@settings(deadline=None, max_examples=15)
@given(size=SIZES, cuts=st.sets(st.integers(1, 6)))
@example(size=(3, 41, 27), cuts={1, 2})  # longer than a chunk of the fast tier, which begins within a counter
def test_dropout_of_a_share_equals_the_rows_of_the_whole_batch(tier, dtype, size, cuts):
    x = random(*size).astype(dtype)
    with use_backend(tier):
        whole, _ = dropped_and_gradient(x, **KEY)
        for share in shares(len(x), cuts):
            y, gx = dropped_and_gradient(x[share], **KEY, first=share.start * x[0].size)
            assert_equal_bits(y, whole[share])
            np.testing.assert_array_equal(gx == 0, whole[share] == 0)


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("tier", ALL_TIERS)
def test_dropout_agrees_with_the_reference(tier, first):
    x = random(1029)
    kernel = implementation_kernel("dropout", "forward", tier)
    expected = reference.forward.definition(x, **KEY, first=first)
    np.testing.assert_array_equal(fetch(kernel(place(x, tier), **KEY, first=first)), expected)


# ---------------------------------------------------------------------------------------- conv, ELU, dropout
def fused_and_gradients(x, w, gy, epilogue, create_graph=False):
    """(the result, the gradients of x and w)."""
    x, w = (tn.tensor(a, requires_grad=True) for a in (x, w))
    y = conv_elu_dropout(x, w, None, Geometry(padding=(1, 1)), epilogue)
    gx, gw = tn.grad(y, [x, w], tn.tensor(gy), create_graph=create_graph)
    return y.numpy(), gx.numpy(), gw.numpy()


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("tier", ALL_TIERS[:3])
@settings(deadline=None, max_examples=8)
@given(
    size=st.tuples(*[st.integers(1, 5)] * 3), channels=st.sampled_from([1, 3, 4, 16]), cuts=st.sets(st.integers(1, 4))
)
@example(size=(3, 7, 9), channels=3, cuts={1, 2})
@example(size=(3, 7, 9), channels=16, cuts={1})
def test_the_fused_convolution_of_a_share_equals_the_rows_of_the_whole_batch(tier, graph, size, channels, cuts):
    """Whole numbers, so that no sum rounds, in whatever order a version adds for a batch of another size."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-4, 5, (*size, 4)), rng.integers(-2, 3, (3, 3, 4, channels))
    gy = rng.integers(1, 5, (*size, channels))
    x, w, gy = (a.astype(np.float32) for a in (x, w, gy))
    epilogue = Epilogue(alpha=0.7, **KEY)
    with use_backend(tier):
        y, gx, gw = fused_and_gradients(x, w, gy, epilogue, graph)
        sum_gw = np.zeros_like(gw)
        for share in shares(len(x), cuts):
            of_share = epilogue._replace(first=share.start * y[0].size)
            actual = fused_and_gradients(x[share], w, gy[share], of_share, graph)
            assert_equal_bits(actual[0], y[share])
            assert_equal_bits(actual[1], gx[share])
            sum_gw += actual[2]
    np.testing.assert_allclose(sum_gw, gw, rtol=0, atol=1e-5 * max(1, np.abs(gw).max()))


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize(("tier", "implementation"), CONVOLUTIONS)
def test_every_convolution_draws_the_mask_of_the_reference(tier, implementation, first, channels):
    x, w, b = random(2, 5, 6, 4), random(3, 3, 4, channels), random(channels)
    kernel = implementation_kernel("conv2d", "forward", tier, implementation)
    epilogue = Epilogue(alpha=0.7, **KEY, first=first)
    y = fetch(kernel(*place((x, w, b), tier), Geometry(padding=(1, 1)), epilogue))
    expected = reference.forward.definition(np.ones(y.shape), **KEY, first=first)
    np.testing.assert_array_equal(y == 0, expected == 0)


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("tier", ALL_TIERS)
def test_the_fused_gradient_draws_the_mask_of_the_reference(tier, first):
    epilogue = Epilogue(alpha=0.7, **KEY, first=first)
    mask = epilogue.mask
    y = reference.forward.definition(random(1029), **mask)
    gy = random(1029, seed=4)
    kernel = implementation_kernel("conv_elu_dropout", "backward", tier)
    gz = fetch(kernel(*place((gy, y), tier), epilogue))
    np.testing.assert_array_equal(gz == 0, y == 0)


@pytest.mark.parametrize("changed", ["elu", "dropout"])
def test_a_kernel_swapped_for_the_backward_pass_gets_the_same_mask(changed):
    """backward then calls the kernels of dropout and ELU one after the other."""
    arrays = random(2, 5, 6, 4), random(3, 3, 4, 3), random(2, 5, 6, 3)
    epilogue = Epilogue(alpha=0.7, **KEY, first=90)
    expected = fused_and_gradients(*arrays, epilogue)
    name = "backward" if changed == "elu" else "forward"
    x, w = (tn.tensor(a, requires_grad=True) for a in arrays[:2])
    y = conv_elu_dropout(x, w, None, Geometry(padding=(1, 1)), epilogue)
    with tn.use_kernels(changed, **{name: implementation_kernel(changed, name, "reference")}):
        gx, gw = tn.grad(y, [x, w], tn.tensor(arrays[2]))
    for actual, right in zip((gx, gw), expected[1:]):
        np.testing.assert_allclose(actual.numpy(), right, rtol=0, atol=1e-5 * np.abs(right).max())


# ---------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("first", "error", "message"),
    [
        (-1, ValueError, r"dropout: first is -1; it must lie in 0 .. 2\*\*63 - 1"),
        (2**63, ValueError, r"dropout: first is 9223372036854775808; it must lie in 0 .. 2\*\*63 - 1"),
        (4.0, TypeError, "dropout: first is 4.0; an integer is needed"),
        (None, TypeError, "dropout: first is None; an integer is needed"),
        ("4", TypeError, "dropout: first is '4'; an integer is needed"),
    ],
)
def test_errors_name_first(first, error, message):
    with pytest.raises(error, match=message):
        tn.dropout(np.ones(3), **KEY, first=first)
    with pytest.raises(error, match=message):
        fused_and_gradients(
            random(1, 2, 2, 1), random(3, 3, 1, 1), random(1, 2, 2, 1), Epilogue(alpha=1.0, **KEY, first=first)
        )


def test_an_integer_of_numpy_is_taken():
    x = random(9)
    expected = tn.dropout(x, **KEY, first=7)
    for kind in (np.int8, np.uint64, np.int32):
        np.testing.assert_array_equal(tn.dropout(x, **KEY, first=kind(7)), expected)
