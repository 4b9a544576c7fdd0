"""The register block by itself: its sum, its lanes, and the arrays it refuses. conv2d's tests use all its shapes."""

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from tinynet.ops.simd import block_4x2, lanes_of


@numba.njit
def call(a, b, start, c, lanes, accumulate):
    """c (4, 2 lanes) from a (2, 3, 4) and b (2, 3, 2 lanes), all flat: sums over the first two axes."""
    block_4x2(a, 0, 1, 4, 12, b, 0, 2 * lanes, 6 * lanes, 3, 2, start, 0, c, 0, 2 * lanes, accumulate)


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, 16), (np.float64, 8)])
@pytest.mark.parametrize("accumulate", [0, 1])
def test_a_block_is_the_sum_it_says(dtype, lanes, accumulate):
    rng = np.random.default_rng(0)
    shapes = (2, 3, 4), (2, 3, 2 * lanes), (2 * lanes,), (4, 2 * lanes)
    a, b, start, c = (rng.integers(-5, 6, shape).astype(dtype) for shape in shapes)  # sums of these are exact
    want = start + np.einsum("okr,okj->rj", a, b) + accumulate * c
    assert lanes_of(dtype) == lanes
    call(a.reshape(-1), b.reshape(-1), start, c.reshape(-1), lanes, accumulate)
    np.testing.assert_array_equal(c, want)


@pytest.mark.parametrize("odd", range(4))
def test_arrays_of_different_dtypes_are_refused(odd):
    arrays = [np.zeros(200, np.float64 if i == odd else np.float32) for i in range(4)]
    with pytest.raises(TypingError, match="a, b, start and c must have one float dtype"):
        call(*arrays, 16, 0)
