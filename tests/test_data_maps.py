"""The target maps of a net against their definitions, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuclei_files import squares

from tinynet.data.maps import binary_map, border_map, distance_map, targets


def random_labels(seed: int) -> np.ndarray:
    """Overlapping boxes in a small image: touching, cut off, single pixels, numbers with gaps."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((rng.integers(1, 24), rng.integers(1, 24)), np.int32)
    for number in rng.permutation(9)[: rng.integers(0, 9)] + 1:
        top, left = rng.integers(0, labels.shape)
        labels[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = number
    return labels


def border_by_definition(labels: np.ndarray) -> np.ndarray:
    result = np.zeros(labels.shape, np.float32)
    for row, column in np.ndindex(labels.shape):
        window = labels[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        result[row, column] = len(set(window[window > 0].tolist())) >= 2
    return result


def distance_by_definition(labels: np.ndarray) -> np.ndarray:
    result = np.zeros(labels.shape, np.float32)
    places = np.stack(np.indices(labels.shape), axis=-1).reshape(-1, 2)
    for number in np.unique(labels[labels > 0]):
        inside, outside = places[(labels == number).ravel()], places[(labels != number).ravel()]
        if len(outside) == 0:
            result[:] = 1
            continue
        depth = np.linalg.norm(inside[:, None] - outside[None], axis=-1).min(axis=1)
        result[tuple(inside.T)] = depth / depth.max()
    return result


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_maps_follow_their_definitions(seed):
    labels = random_labels(seed)
    np.testing.assert_array_equal(border_map(labels), border_by_definition(labels))
    np.testing.assert_allclose(distance_map(labels), distance_by_definition(labels), atol=1e-6)
    np.testing.assert_array_equal(binary_map(labels), (labels != 0).astype(np.float32))


def test_touching_neighbor_is_outside():
    labels = np.zeros((9, 20), np.int32)
    labels[:, :10], labels[:, 10:] = 1, 2
    depth = distance_map(labels)
    assert depth[4, 9] == depth[4, 10] == pytest.approx(0.1) and depth[4, 0] == depth[4, 19] == 1
    assert border_map(labels)[4].nonzero()[0].tolist() == [8, 9, 10, 11]


def test_a_nucleus_near_another_borders_across_the_gap():
    labels = np.zeros((7, 12), np.int32)
    labels[:, :4], labels[:, 7:] = 1, 2  # a gap of three: only its middle column sees both
    assert border_map(labels)[3].nonzero()[0].tolist() == [5]
    labels[:, 7] = 0  # a gap of four: no column sees both
    assert border_map(labels).max() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_any_integer_dtype(dtype):
    np.testing.assert_array_equal(targets(squares().astype(dtype), 3), targets(squares(), 3))


def test_targets_stack_mask_border_distance():
    labels = squares()
    three = targets(labels, 3)
    assert three.shape == (*labels.shape, 3) and three.dtype == np.float32
    for channel, one in enumerate((binary_map, border_map, distance_map)):
        np.testing.assert_array_equal(three[:, :, channel], one(labels))
    np.testing.assert_array_equal(targets(labels, 1)[:, :, 0], binary_map(labels))
    assert targets(np.zeros((5, 6), np.int32), 3).max() == 0
    with pytest.raises(ValueError, match="heads 2; need 1"):
        targets(labels, 2)
