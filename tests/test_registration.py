"""Transforms of points, images read at points, and the measures of registration."""

import numpy as np
import pytest
from scipy import ndimage

import tinynet as tn
from tinynet import registration as reg

RNG = np.random.default_rng(0)
CENTER = np.array([9.5, 7.0])


def transforms(count=5):
    return RNG.uniform(-1, 1, (count, 3)) * [2, 6, 6]


def moved(p, places, center=CENTER):
    """By both functions, which agree."""
    result = reg.rigid(tn.tensor(p), places, center).numpy()
    np.testing.assert_allclose(reg.moved(p, places, center), result, atol=1e-12)
    return result


def test_transforms_of_points():
    places = RNG.uniform(0, 20, (7, 2))
    np.testing.assert_allclose(moved(np.array([[0, 3, -2.0]]), places)[0], places + np.array([3, -2]))
    quarter = moved(np.array([[np.pi / 2, 0, 0]]), CENTER + np.array([[1.0, 0], [0, 1]]))[0] - CENTER
    np.testing.assert_allclose(quarter, [[0, 1], [-1, 0]], atol=1e-12)
    first, then = transforms(), transforms()
    np.testing.assert_allclose(moved(reg.composed(first, then), places), moved(first, moved(then, places)), atol=1e-12)
    np.testing.assert_allclose(moved(reg.composed(first, reg.inverse(first)), places), [places] * 5, atol=1e-12)


def test_the_best_transforms_of_landmarks():
    places, p = RNG.uniform(0, 20, (9, 2)), transforms(1)
    targets = moved(p, places)[0]
    np.testing.assert_allclose(reg.best_rigid(places, targets, CENTER), p, atol=1e-12)
    np.testing.assert_allclose(np.c_[places, np.ones(9)] @ reg.best_affine(places, targets), targets, atol=1e-12)
    noisy = targets + RNG.normal(0, 1, targets.shape)
    best = reg.best_rigid(places, noisy, CENTER)

    def squared(p):
        return np.sum((moved(p, places)[0] - noisy) ** 2)

    for change in np.concatenate([np.eye(3), -np.eye(3)]) * 1e-3:
        assert squared(best + change) > squared(best)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_images_are_read_at_places(padding):
    images, places = RNG.normal(size=(2, 8, 9, 3)), RNG.uniform(-2, 10, (2, 4, 5, 2))
    mode = {"border": "nearest", "zeros": "constant"}[padding]
    for given in (images, images[:1]):
        read = reg.read_at(given, tn.tensor(places), padding).numpy()
        for image, points, values in zip(np.broadcast_to(given, images.shape), places, read):
            for c in range(3):
                np.testing.assert_allclose(
                    values[..., c],
                    ndimage.map_coordinates(
                        np.pad(image[:, :, c], 3, mode="edge" if padding == "border" else "constant"),
                        points.transpose(2, 0, 1) + 3,
                        order=1,
                        mode=mode,
                    ),
                    atol=1e-12,
                )
    at_pixels = reg.read_at(images[:1], tn.tensor(reg.pixel_centers(8, 9)[None])).numpy()
    np.testing.assert_allclose(at_pixels, images[:1], atol=1e-12)
    assert reg.pixel_centers(5, 4, 2).tolist()[-1] == [[4, 0], [4, 2]]


def smooth(n=2, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, 24, 24, 1))
    image = ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    return image / image.std()


@pytest.mark.parametrize(
    ("measure", "relation", "is_seen"),
    [
        (reg.squared_difference, lambda x: x, True),
        (reg.squared_difference, lambda x: 3 - x, False),
        (reg.correlation, lambda x: 0.4 * x + 1, True),
        (reg.correlation, lambda x: np.abs(x) - 1, False),
        (reg.mutual_information, lambda x: np.abs(x) - 1, True),
        (reg.mutual_information, lambda x: 1 - x, True),
    ],
)
def test_what_each_measure_sees(measure, relation, is_seen):
    image = smooth()
    other = relation(image)
    shifts = [measure(tn.tensor(image), tn.tensor(np.roll(other, k, axis=1))).numpy() for k in (0, 3, 9)]
    assert shifts[0].shape == (2,)
    assert bool((shifts[0] > 1.5 * np.abs(shifts[1:]).max(axis=0)).all() or (shifts[0] > -1e-9).all()) == is_seen


def test_known_values_of_the_measures():
    x = tn.tensor(smooth())
    np.testing.assert_allclose(reg.correlation(x, -2 * x + 5).numpy(), -1)
    np.testing.assert_allclose(reg.squared_difference(x, x + 2).numpy(), -4)
    two = tn.tensor(np.where(smooth() > 0, 1.0, -1.0))  # two gray levels on bins far from each other: one bit at most
    information = reg.mutual_information(two, two, bins=9, values=(-1.0, 1.0)).numpy()
    assert (np.abs(information - np.log(2)) < 0.05).all()
    independent = tn.tensor(smooth(seed=1))
    assert (reg.mutual_information(x, independent).numpy() < 0.5 * reg.mutual_information(x, x).numpy()).all()


def test_gradients():
    rng = np.random.default_rng(1)
    p, places = rng.uniform(-1, 1, (2, 3)), rng.uniform(0, 5, (2, 4, 2))
    tn.gradcheck(lambda p, places: reg.rigid(p, places, CENTER), (p, places))
    images, points = rng.normal(size=(2, 5, 4, 2)), rng.uniform(0.1, 2.9, (2, 3, 2, 2))
    tn.gradcheck(reg.read_at, (images, points))
    for measure in (reg.squared_difference, reg.correlation, reg.mutual_information):
        tn.gradcheck(measure, (rng.normal(size=(2, 3, 3, 1)), rng.normal(size=(2, 3, 3, 1))))


def test_wrong_arguments_are_named():
    places = tn.tensor(np.zeros((2, 3, 4, 2)))
    for call, message in {
        lambda: reg.rigid(tn.tensor(np.zeros((2, 6))), np.zeros((4, 2)), CENTER): r"p has shape \(2, 6\); \(N, 3\)",
        lambda: reg.rigid(tn.tensor(np.zeros((2, 3))), np.zeros((3, 4, 2)), CENTER): r"places has shape \(3, 4, 2\)",
        lambda: reg.read_at(np.zeros((3, 5, 5, 1)), places): "there are 3 images and 2 sets of places",
        lambda: reg.read_at(np.zeros((2, 5, 5, 1)), places, "wrap"): "padding is 'wrap'",
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
