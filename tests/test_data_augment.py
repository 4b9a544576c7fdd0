"""Paired augmentation: labels move with the image, and stay labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuclei_files import squares

from tinynet.data.augment import (
    Affine,
    BrightnessContrast,
    Compose,
    GaussianBlur,
    GaussianNoise,
    Invert,
    Stain,
    linear_map,
    warp,
)

LABELS = np.kron(squares(), np.full((2, 2), 100, np.int32))  # far apart, so that interpolated numbers are noticed
IMAGE = np.repeat(LABELS[:, :, None], 3, axis=2).astype(np.float32) / 300
EVERYTHING = Compose(
    [Affine(), Stain(), BrightnessContrast(), Invert(), GaussianNoise(probability=1), GaussianBlur(probability=1)]
)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_labels_move_with_the_image_and_never_mix(seed):
    image, labels = Affine()(IMAGE, LABELS, np.random.default_rng(seed))
    assert labels.dtype == LABELS.dtype and image.dtype == np.float32
    assert labels.shape == LABELS.shape and image.shape == IMAGE.shape
    assert set(np.unique(labels)) <= {0, 100, 200, 300}
    # The image holds each nucleus's number; away from edges, where interpolation mixes them, it must equal the label.
    level = 100 * np.rint(image[:, :, 0] * 3)
    clear = np.abs(image[:, :, 0] * 300 - level) < 1e-2
    assert clear.mean() > 0.7
    assert (level == labels)[clear].mean() > 0.98


def test_a_shift_applied_to_the_image_only_would_be_seen():
    """The comparison of the test above notices labels that are shifted by four pixels."""
    image, labels = Affine(shift=0, rotation=0, shear=0, zoom=1, rescale=1, flip=False)(
        IMAGE, LABELS, np.random.default_rng(0)
    )
    np.testing.assert_allclose(image, IMAGE)
    assert (np.rint(image[:, :, 0] * 300) == np.roll(labels, 4, axis=0)).mean() < 0.95


def test_warp_puts_the_center_in_the_middle():
    row, column = np.indices((30, 40)).astype(np.float32)
    moved = warp(np.stack([row, column], axis=2), np.eye(2), (10, 20), (5, 7), order=1)
    np.testing.assert_allclose(moved[2, 3], [10, 20])
    np.testing.assert_allclose(moved[0, 0], [8, 17])
    twice = warp(row, linear_map(zoom=(2, 1)), (10, 20), (5, 5), order=1)  # zoom 2: rows are half as far apart
    np.testing.assert_allclose(twice[:, 0], [9, 9.5, 10, 10.5, 11])


def test_warp_keeps_label_dtype_and_mirrors_at_the_edge():
    labels = np.array([[1, 2, 3]], np.int32)
    moved = warp(labels, np.eye(2), (0, 0), (1, 5), order=0)
    assert moved.dtype == np.int32 and moved.tolist() == [[2, 1, 1, 2, 3]]


def test_linear_map_turns_and_flips():
    down = np.array([1.0, 0.0])  # one row down in the result ...
    np.testing.assert_allclose(linear_map(angle=np.pi / 2) @ down, [0, 1], atol=1e-12)  # ... one column to the right
    np.testing.assert_allclose(linear_map(flip=True) @ [1, 1], [1, -1])
    np.testing.assert_allclose(linear_map(shear=0.5) @ down, [1, 0.5])


def test_intensities_leave_labels_alone_and_keep_dtype():
    for dtype in (np.float32, np.float64):
        rng = np.random.default_rng(0)
        steps = [BrightnessContrast(), Invert(1), GaussianNoise(0.1, 1), GaussianBlur(2, 1)]
        for step in steps:
            image, labels = step(IMAGE.astype(dtype), LABELS, rng)
            assert labels is LABELS and image.dtype == dtype and image.shape == IMAGE.shape
            assert not np.array_equal(image, IMAGE)
            assert step(IMAGE, None, rng)[1] is None


def test_what_each_intensity_step_does():
    rng = np.random.default_rng(1)
    np.testing.assert_allclose(Invert(1)(IMAGE, None, rng)[0], 1 - IMAGE)
    np.testing.assert_array_equal(Invert(0)(IMAGE, None, rng)[0], IMAGE)
    flat = np.full((200, 200, 3), 0.5, np.float32)
    noisy, _ = GaussianNoise(0.1, 1)(flat, None, np.random.default_rng(3))
    drawn = np.random.default_rng(3)
    drawn.random(), drawn.standard_normal((200, 200, 1), dtype=np.float32)
    assert noisy.std() == pytest.approx(drawn.uniform(0, 0.1), rel=0.02)
    assert np.ptp(noisy, axis=2).max() == 0  # gray stays gray
    spike = np.zeros((21, 21, 1), np.float32)
    spike[10, 10] = 1
    blurred, _ = GaussianBlur(1.5, 1)(spike, None, np.random.default_rng(5))
    assert blurred.sum() == pytest.approx(1, rel=1e-3) and blurred.max() < 0.9
    gains = [BrightnessContrast(0, 0.2, 0)(np.ones((1, 1, 3), np.float32), None, rng)[0] for _ in range(500)]
    assert np.std(np.log([g[0, 0, 0] for g in gains])) == pytest.approx(0.2, rel=0.15)


def test_blur_keeps_channels_apart():
    image = np.zeros((21, 21, 3), np.float32)
    image[10, 10, 1] = 1
    blurred, _ = GaussianBlur(1.5, 1)(image, None, np.random.default_rng(5))
    assert blurred[:, :, 1].max() < 0.9 and not blurred[:, :, [0, 2]].any()


def test_zoom_enlarges_and_reduces():
    """The area of a disc, over many draws: as often larger as smaller, up to the square of the zoom."""
    disc = (np.hypot(*np.mgrid[-32:32, -32:32]) < 12).astype(np.float32)[:, :, None]
    only_zoom = Affine(shift=0, rotation=0, shear=0, zoom=1.5, rescale=1, flip=False)
    areas = [only_zoom(disc, None, np.random.default_rng(s))[0].sum() / disc.sum() for s in range(60)]
    assert 0.4 < min(areas) < 0.6 and 1.8 < max(areas) < 2.3
    assert 0.3 < np.mean(np.array(areas) > 1) < 0.7


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32), np.ones((8, 8, 1), int)]
)
@pytest.mark.parametrize("step", EVERYTHING.steps, ids=lambda step: type(step).__name__)
def test_integers_and_images_without_channels_are_refused(step, image):
    with pytest.raises(TypeError, match=rf"{type(step).__name__}: image has .*divide 8-bit images by 255"):
        step(image, None, np.random.default_rng(0))


def test_stain_changes_colors_only():
    image = IMAGE.copy()
    image[:, :, 0] += 0.3
    restained, labels = Stain(1.5, 1)(image, LABELS, np.random.default_rng(2))
    assert labels is LABELS and restained.dtype == np.float32
    np.testing.assert_allclose(restained.mean(axis=2), image.mean(axis=2), atol=1e-6)  # gray does not change
    color, before = (np.sort(a - a.mean(axis=2, keepdims=True), axis=2) for a in (restained, image))
    ratio = color[np.abs(before) > 0.01] / before[np.abs(before) > 0.01]
    assert ratio.min() >= 0 and np.ptp(ratio) < 1e-3 and ratio.max() <= 1.5  # one saturation for the whole image
    orders = {tuple(np.argsort(Stain(1, 1)(image, None, np.random.default_rng(s))[0][0, 0])) for s in range(40)}
    assert len(orders) == 3  # the channel that differs was red, green and blue
    gray = np.repeat(IMAGE[:, :, :1], 3, axis=2)
    np.testing.assert_allclose(Stain(1, 1)(gray, None, np.random.default_rng(0))[0], gray, atol=1e-6)


def test_same_generator_same_picture():
    first, again, other = (EVERYTHING(IMAGE, LABELS, np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(np.rint(IMAGE[:, :, 0] * 300), LABELS)  # the input is unchanged
