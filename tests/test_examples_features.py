"""The exact parts of examples/unsupervised/features_compared.py: features as in scikit-image, the atlas, the codes."""

from __future__ import annotations

import numpy as np
import pytest
from test_nn_gradients import check_net

import tinynet as tn
from tinynet.data import Volume
from tinynet.tools.bench.examples import load_example

script = load_example("unsupervised/features_compared.py")
CELL = 3
PLACES = np.array(
    [[10, 13, 16], [4, 7, 10], [10, 4, 4]]
)  # a multiple of the cell and 1: their cells are those of skimage


@pytest.fixture
def case():
    image = np.random.default_rng(0).random((21, 24, 27)).astype(np.float32)
    return script.Case(image, image > 0.5, np.full(image.shape, 0.25, np.float32), PLACES)


def planes(case):
    """(place, the slice through it, row, column in the slice) of each place in each plane."""
    for place in case.places:
        for number, (first, second) in enumerate(script.PLANES):
            axis = ({0, 1, 2} - {first, second}).pop()
            yield number, np.take(case.image, place[axis], axis), place[first], place[second]


def by_plane(features):
    """(N * 3, F / 3): the rows as `planes` yields them."""
    return features.reshape(len(features) * 3, -1)


def test_gray_values_are_those_of_the_patch(case):
    actual = by_plane(script.intensity(case, CELL))
    for row, (_, image, i, j) in zip(actual, planes(case), strict=True):
        np.testing.assert_array_equal(row.reshape(9, 9), np.pad(image, 4)[i : i + 9, j : j + 9])


def test_hog_is_that_of_scikit_image(case):
    from skimage.feature import hog

    actual = by_plane(script.hog(case, CELL))
    for row, (_, image, i, j) in zip(actual, planes(case), strict=True):
        blocks = hog(image, 9, (CELL, CELL), (3, 3), feature_vector=False)  # a block begins at every cell
        block = blocks[i // CELL - 1, j // CELL - 1]
        if 2 <= i // CELL < blocks.shape[0] and 2 <= j // CELL < blocks.shape[1]:  # gradients at the border differ
            np.testing.assert_allclose(row, block.ravel(), atol=1e-4)
    assert actual.shape == (9, 81)


def test_lbp_are_frequencies_of_codes(case):
    from skimage.feature import local_binary_pattern

    actual = by_plane(script.lbp(case, CELL)).reshape(-1, 3, 3, 10)
    np.testing.assert_allclose(actual.sum(axis=-1), 1, atol=1e-5)
    for row, (_, image, i, j) in zip(actual, planes(case), strict=True):
        codes = local_binary_pattern(np.rint(image * 255).astype(np.uint8), 8, 1, "uniform").astype(int)
        middle = codes[i - 1 : i + 2, j - 1 : j + 2]
        np.testing.assert_allclose(row[1, 1], np.bincount(middle.ravel(), minlength=10) / 9, atol=1e-6)


def test_haar_are_those_of_scikit_image(case):
    from skimage.feature import haar_like_feature
    from skimage.transform import integral_image

    actual = by_plane(script.haar(case, CELL)).reshape(9, 2, 22)[:, 0]
    for row, (_, image, i, j) in zip(actual, planes(case), strict=True):
        patch = np.pad(image, 4)[i : i + 9, j : j + 9].astype(np.float64)
        means = patch.reshape(3, CELL, 3, CELL).mean(axis=(1, 3))
        known = haar_like_feature(integral_image(means), 0, 0, 3, 3)  # of all rectangles of one or more cells
        assert all(np.abs(np.abs(known) - abs(value)).min() < 1e-5 for value in row)
        assert len(np.unique(np.abs(row).round(6))) == 22


def test_the_place_and_what_is_certain():
    labels = np.zeros((4, 10, 2, 2), np.uint8)
    for count, column in ((10, 0), (5, 1)):
        labels[0, :count, 0, column] = 1  # of ten volumes
    volumes = [
        Volume("v", np.random.default_rng(0).random((2, 2, 4)), n, (1.0, 1.0, 1.0))
        for n in labels.transpose(1, 2, 3, 0)
    ]
    atlas = script.make_atlas(volumes)
    assert atlas.shape == script.SHAPE and atlas.max() == 1 and np.sort(atlas.ravel())[-2] == 0.5
    case = script.make_case(volumes[0], atlas)
    assert len(case.places) == 1 and case.at_places(case.chance) == [0.5] and script.log_odds(case).tolist() == [[0]]
    assert len(script.some_places(case, 0, np.random.default_rng(0)).places) == 0


def test_codes_of_all_layers_and_their_gradients():
    tn.seed(0)
    layers = script.stacked.random_layers(6, (4, 3))
    x = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    first = layers[0].up(tn.tensor(x))
    np.testing.assert_allclose(script.codes(layers, x), np.c_[first.numpy(), layers[1].up(first).numpy()], rtol=1e-6)
    net, rng = script.stacked.Stack(layers), np.random.default_rng(1)
    check_net(net, rng.standard_normal((5, 6)), rng)


def test_every_method_sees_its_features_and_the_atlas_decides_the_rest(case):
    pytest.importorskip("sklearn", reason="scikit-learn is in the extra 'examples'")
    rng = np.random.default_rng(0)
    inside = rng.random(case.image.shape) < 0.5
    chance = np.where(rng.random(case.image.shape) < 0.3, 0.9, 0.1).astype(np.float32)
    known = script.Case(case.image, inside, chance, rng.integers(0, 20, (200, 3)))
    telling = {
        "truth": lambda c, _: c.at_places(c.inside)[:, None] + 0.0,
        "noise": lambda c, _: np.ones((len(c.places), 1)),
    }
    masks = script.compare(telling, {n: (n,) for n in telling}, [known], [known], script.Config(strength=100.0))
    assert set(masks) == {"truth", "truth_place", "noise", "noise_place"}
    (mask,) = masks["truth"]
    assert (known.at_places(mask) == known.at_places(inside)).all()
    rest = np.ones(mask.shape, bool)
    rest[tuple(known.places.T)] = False
    assert (mask[rest] == (chance > 0.5)[rest]).all()
