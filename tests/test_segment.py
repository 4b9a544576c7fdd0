"""From a net and an image to nuclei: tiles without seams, the common scale, and nuclei back in the image's pixels."""

import re

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, segment
from tinynet.tools.bench.examples import load_example

script = load_example("segmentation/unet_nuclei.py")


def discs(height, width, centers, radius, level=200):
    """An image (H, W, 3) uint8 of bright discs on black."""
    y, x = np.ogrid[:height, :width]
    image = np.zeros((height, width, 3), np.uint8)
    for cy, cx in centers:
        image[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = level
    return image


def threshold_net(images):
    """A net with a known answer: pixels brighter than 0.4 are nucleus."""
    assert images.dtype == np.float32
    assert images.shape[1] % 16 == images.shape[2] % 16 == 0
    return (images.mean(axis=3, keepdims=True) > 0.4).astype(np.float32)


def blind_net(images):
    """A net that never finds anything."""
    return np.zeros((*images.shape[:3], 1), np.float32)


@pytest.fixture(scope="module")
def unet():
    """(net, model): a U-Net with random weights, so large that far pixels change the output."""
    tn.seed(3)
    model = script.UNet(heads=3).eval()

    def net(images):
        with tn.no_grad():
            return model(tn.tensor(images)).numpy()

    return net, model


# ---------------------------------------------------------------------------------------- tiles
@pytest.mark.parametrize(("size", "tile"), [((150, 330), 96), ((40, 300), 32), ((33, 70), 768), ((5, 3), 16)])
def test_tiles_leave_no_seam(unet, size, tile):
    net, _ = unet
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    height, width = size
    padded = np.pad(image, ((0, -height % 16), (0, -width % 16), (0, 0)), mode="symmetric")
    whole = net(padded[None])[0, :height, :width]
    tiled = segment.predict_tiled(net, image, tile=tile)
    assert tiled.shape == (*size, 3)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-6)


def test_too_small_a_margin_shows_a_seam(unet):
    """The test above can fail: with half the margin, the same comparison notices the tiles."""
    net, _ = unet
    image = np.random.default_rng(0).random((32, 320, 3), dtype=np.float32)
    tiled = segment.predict_tiled(net, image, tile=32, margin=48)
    assert np.abs(tiled - net(image[None])[0]).max() > 1e-5


def test_each_pixel_is_predicted_once_and_lands_where_it_belongs():
    image = np.random.default_rng(0).random((70, 90, 3), dtype=np.float32)
    tiled = segment.predict_tiled(lambda images: images, image, tile=16, margin=32)
    np.testing.assert_array_equal(tiled, image)


def test_the_margin_covers_the_receptive_field(unet):
    """Derivatives of single output pixels with respect to the input vanish beyond MARGIN, and not long before.

    conv2d runs as `blocked`: Winograd's versions spread rounding errors over their tiles.
    """
    _, model = unet
    size, reached = 288, 0
    x = np.random.default_rng(0).random((1, size, size, 3), dtype=np.float32)
    for center in (128, 133, 138, 143):  # the reach depends on the position within 16 pixels
        image = tn.tensor(x, requires_grad=True)
        with tn.use_kernels("conv2d", "blocked"):
            model.logits(image)[0, center, center, 0].backward()
        seen = np.argwhere(image.grad.numpy()[0].any(axis=2))
        reached = max(reached, int(np.abs(seen - center).max()))
    assert 100 <= reached <= segment.MARGIN
    for field in nn.summary(model, (1, 32, 32, 3)).rows[-1].field:
        assert reached <= max(field.reach) <= segment.MARGIN
        assert field.size == 204


@pytest.mark.parametrize("sizes", [{"tile": 100}, {"tile": 0}, {"margin": 100}, {"margin": -16}])
def test_tile_and_margin_must_fit_the_net(sizes):
    with pytest.raises(ValueError, match=r"predict_tiled: tile -?\d+ and margin -?\d+ must be multiples of 16"):
        segment.predict_tiled(blind_net, np.zeros((32, 32, 3), np.float32), **sizes)


# ---------------------------------------------------------------------------------------- sizes
def test_resize():
    image = np.random.default_rng(0).random((20, 30, 2), dtype=np.float32)
    assert segment.resize(image, (20, 30)) is image
    for size in ((40, 45), (7, 11), (1, 1)):
        other = segment.resize(image, size)
        assert (other.shape, other.dtype) == ((*size, 2), np.float32)
        assert other.mean(axis=(0, 1)) == pytest.approx(image.mean(axis=(0, 1)), abs=0.03)
    ramp = np.tile(np.arange(10, dtype=np.float32)[:, None, None], (1, 4, 1))
    np.testing.assert_allclose(segment.resize(ramp, (20, 4))[2:-2, 0, 0], np.arange(0.75, 8.5, 0.5), atol=1e-5)


def test_resize_labels():
    labels = np.array([[0, 7], [3, 3]], np.int32)
    np.testing.assert_array_equal(segment.resize_labels(labels, (4, 4)), labels.repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(segment.resize_labels(labels.repeat(3, axis=0), (2, 2)), labels)
    assert set(np.unique(segment.resize_labels(labels, (5, 9)))) <= {0, 3, 7}


def test_size_at_scale():
    assert segment.size_at_scale((100, 51), 0.5) == (50, 26)
    assert segment.size_at_scale((100, 8), 0.12) == (16, 16)


def test_maps_at_a_scale():
    image = np.random.default_rng(0).random((32, 48, 3), dtype=np.float32)
    np.testing.assert_array_equal(segment.predict_maps(lambda images: images, image, 1.0), image)
    assert segment.predict_maps(lambda images: images, image, 1.5).shape == (48, 72, 3)


# ---------------------------------------------------------------------------------------- the common scale
@pytest.mark.parametrize("radius", [5, 12, 30])
def test_the_scale_is_found(radius):
    step = 3 * radius
    centers = [(y, x) for y in range(step, 4 * step, step) for x in range(step, 4 * step, step)]
    image = discs(4 * step + 7, 4 * step + 7, centers, radius)
    assert segment.estimate_scale(threshold_net, image) == pytest.approx(segment.DIAMETER / (2 * radius), rel=0.1)


def test_the_scale_follows_the_net_where_otsu_sees_something_else():
    """Discs of two sizes. This net finds only the dim small ones; Otsu finds the bright large ones."""
    image = discs(160, 160, [(40, 40), (40, 120)], 30, level=250)
    small = [(100, 20), (100, 60), (100, 100), (100, 140), (140, 40), (140, 80), (140, 120)]
    image = np.maximum(image, discs(160, 160, small, 8, level=130))

    def net(images):
        gray = images.mean(axis=3, keepdims=True)
        return ((gray > 0.3) & (gray < 0.7)).astype(np.float32)

    assert segment.estimate_scale(net, image) == pytest.approx(segment.DIAMETER / 16, rel=0.2)


def test_without_nuclei_the_scale_is_one():
    assert segment.estimate_scale(blind_net, np.zeros((40, 50, 3), np.uint8)) == 1


def test_of_a_large_image_the_middle_is_measured(monkeypatch):
    """A few discs of 24 pixels in the middle, many more of 12 pixels around it: only the middle counts."""
    assert segment.ENOUGH_TO_MEASURE == 1024
    few = [(y, x) for y in range(150, 550, 100) for x in range(150, 550, 100)]
    along = range(30, 630, 25)
    many = [place for along_edge in along for place in ((30, along_edge), (along_edge, 30))]
    image = np.maximum(discs(660, 660, few, 12), discs(660, 660, many, 6))
    monkeypatch.setattr(segment, "ENOUGH_TO_MEASURE", 512)
    assert segment.estimate_scale(threshold_net, image) == pytest.approx(1, rel=0.1)
    monkeypatch.setattr(segment, "ENOUGH_TO_MEASURE", 660)
    assert segment.estimate_scale(threshold_net, image) == pytest.approx(2, rel=0.1)  # the whole image counts


def test_middle_of():
    assert np.arange(7)[segment.middle_of((7, 7), 3)[0]].tolist() == [2, 3, 4]
    assert np.arange(8)[segment.middle_of((8, 2), 3)[0]].tolist() == [2, 3, 4]
    assert np.arange(2)[segment.middle_of((8, 2), 3)[1]].tolist() == [0, 1]


def test_the_scale_has_limits():
    assert segment.estimate_scale(threshold_net, discs(700, 700, [(350, 350)], 300)) == segment.SCALE_LIMITS[0]


def test_the_scale_is_the_median_over_three_guesses(monkeypatch):
    """The guesses: Otsu's median diameter (12), its area-weighted median diameter (40), and no scaling."""
    baseline, asked = np.zeros((64, 64), np.int32), []

    def median_diameter(labels, area_weighted=False):
        return 24.0 if labels is not baseline else 40.0 if area_weighted else 12.0

    monkeypatch.setattr(segment, "otsu_watershed", lambda image: baseline)
    monkeypatch.setattr(segment, "median_diameter", median_diameter)
    monkeypatch.setattr(segment, "predict_batch", lambda net, images: asked.extend(images) or [np.zeros((9, 9, 1))] * 3)
    assert segment.estimate_scale(blind_net, np.zeros((80, 80, 3), np.uint8)) == 1  # diameters 12, 40, 24
    assert [len(image) for image in asked] == [80 * 24 / 12, 80 * 24 / 40, 80]


@pytest.mark.parametrize(
    ("found", "expected"),  # for each guess: nuclei and their diameter
    [
        ({30: (5, 27), 113: (46, 114), 24: (1, 20)}, 114),  # large nuclei, and the texture inside of them
        ({45: (7, 32), 113: (40, 114), 24: (15, 17)}, 114),
        ({12: (60, 12), 40: (12, 30), 24: (40, 14)}, 14),  # more nuclei, but not on a larger area: the median
        ({30: (0, 0), 60: (4, 50), 24: (0, 0)}, 50),
    ],
)
def test_texture_inside_of_large_nuclei_does_not_set_the_scale(found, expected, monkeypatch):
    def labels_from_maps(guess, min_area):
        count, diameter = found[guess]
        area = round(np.pi / 4 * (diameter * segment.DIAMETER / guess) ** 2)
        return np.repeat(np.arange(count + 1)[:, None], max(area, 1), axis=1)

    monkeypatch.setattr(segment, "labels_from_maps", labels_from_maps)
    scale = segment._agreed_scale([segment._measured((segment.DIAMETER / guess, guess)) for guess in found])
    assert segment.DIAMETER / scale == pytest.approx(expected, rel=0.03)


def test_specks_do_not_set_the_scale():
    """One nucleus of 24 pixels, and three specks that the net is sure of."""
    maps = np.zeros((80, 80, 3), np.float32)
    maps[discs(80, 80, [(40, 40)], 12)[:, :, 0] > 0] = 1, 0, 1
    for row in (4, 40, 70):
        maps[row : row + 8, 4:12] = 1, 0, 1
    assert segment.labels_from_maps(maps).max() == 4
    assert segment._measured((1.0, maps))[0] == pytest.approx(24, rel=0.05)


def test_the_net_sees_normalized_images():
    brightest = []

    def net(images):
        brightest.append(images.max())
        return threshold_net(images)

    segment.estimate_scale(net, discs(100, 100, [(30, 30), (70, 60)], 12, level=40))
    assert min(brightest) > 0.9


# ---------------------------------------------------------------------------------------- nuclei
def test_labels_from_one_map_separate_discs_that_touch():
    mask = discs(60, 90, [(30, 30), (30, 52)], 12)[:, :, :1] / 200
    labels = segment.labels_from_maps(mask.astype(np.float32))
    assert labels.max() == 2
    assert labels[30, 30] != labels[30, 52]
    np.testing.assert_array_equal(labels > 0, mask[:, :, 0] > 0.5)


def test_labels_from_three_maps_are_cut_along_the_border():
    """A bar is one nucleus by its shape and two by its border map."""
    maps = np.zeros((40, 80, 3), np.float32)
    maps[10:30, 10:70, 2] = 1
    maps[10:30, 10:70, 0] = 1
    assert segment.labels_from_maps(maps).max() == 1
    maps[10:30, 39:41, 1] = 1
    labels = segment.labels_from_maps(maps)
    assert labels.max() == 2
    assert labels[20, 20] != labels[20, 60]
    np.testing.assert_array_equal(labels > 0, maps[:, :, 0] > 0.5)  # the border's pixels belong to the nuclei too


@pytest.mark.parametrize(("heads", "small"), [(1, 9), (3, 7)])
def test_small_things_are_dropped_in_proportion_to_the_zoom(heads, small):
    maps = np.zeros((64, 64, heads), np.float32)
    maps[:small, :small] = [1, 0, 1][:heads]  # below MIN_AREA at the common scale
    assert segment.labels_from_maps(maps).max() == 0
    assert segment.labels_from_maps(maps, zoom=0.5).max() == 1
    maps[: 2 * small, : 2 * small] = [1, 0, 1][:heads]  # below MIN_AREA at a zoom of two
    assert segment.labels_from_maps(maps).max() == 1
    assert segment.labels_from_maps(maps, zoom=2.0).max() == 0


@pytest.mark.parametrize(("side", "count"), [(9, 0), (11, 1)])
def test_the_smallest_area_is_measured_at_the_common_scale(side, count):
    """At scale 0.5 the nuclei are separated in the image's pixels, where all lengths are twice as long."""
    maps = np.zeros((32, 32, 1), np.float32)
    maps[10 : 10 + side, 10 : 10 + side] = 1  # MIN_AREA is 100
    assert segment.labels_at_scale(maps, 0.5, (64, 64)).max() == count


def test_a_pixel_of_the_image_belongs_to_a_nucleus_if_most_of_it_does():
    """At scale 4 it has 16 pixels in the maps. Where an edge lies within it, the larger part decides."""
    maps = np.zeros((160, 160, 3), np.float32)
    maps[41:81, 43:83, [0, 2]] = 1  # in the image, rows 10.25 to 20.25 and columns 10.75 to 20.75
    labels = segment.labels_at_scale(maps, 4.0, (40, 40))
    rows, columns = np.nonzero(labels)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == [10, 19, 11, 20]


def test_a_nucleus_that_vanishes_in_the_images_pixels_leaves_no_gap_in_the_numbers():
    """At scale 5, a line of two pixels covers no pixel of the image by half."""
    maps = np.zeros((200, 200, 3), np.float32)
    maps[0:2, :, [0, 2]] = 1
    maps[100:130, 100:130, [0, 2]] = 1
    assert segment.labels_from_maps(maps).max() == 2
    labels = segment.labels_at_scale(maps, 5.0, (40, 40))
    np.testing.assert_array_equal(np.unique(labels), [0, 1])


@pytest.mark.parametrize("heads", [1, 3])
def test_uncertain_pixels_are_no_nucleus(heads):
    maps = np.zeros((60, 60, heads), np.float32)
    maps[10:50, 10:50, 0] = 0.55  # a halo
    maps[20:40, 20:40, 0] = 0.9
    np.testing.assert_array_equal(segment.pieces_from_maps(maps) > 0, maps[:, :, 0] > 0.6)


@pytest.mark.parametrize(("zoom", "count"), [(1, 2), (4, 1)])
def test_the_smallest_seed_grows_with_the_zoom(zoom, count):
    """An island of 25 pixels in the middle of a broad border: a seed at zoom 1, noise at zoom 4."""
    maps = np.zeros((200, 300, 3), np.float32)
    maps[10:190, 10:290, 0] = 1
    maps[40:140, 150:250, 1] = 1
    maps[88:93, 198:203, 1] = 0
    assert segment.pieces_from_maps(maps, zoom).max() == count


def test_the_lengths_of_the_one_map_method_grow_with_the_zoom(monkeypatch):
    given = []
    original = segment.distance_watershed
    monkeypatch.setattr(segment, "distance_watershed", lambda mask, **p: given.append(p) or original(mask, **p))
    for zoom in (1.0, 3.0):
        segment.labels_from_maps(np.ones((40, 40, 1), np.float32), zoom)
    assert given[1] == {name: 3 * length for name, length in given[0].items()}


@pytest.mark.parametrize("shape", [(5, 5), (0, 5, 3), (5, 5, 2), (1, 5, 5, 3)])
def test_wrong_shapes_and_values_are_named(shape):
    from tinynet.data import normalize

    for name, call in (
        ("labels_from_maps: maps", segment.labels_from_maps),
        ("predict_tiled: image", lambda image: segment.predict_tiled(threshold_net, image)),
        ("normalize: image", normalize),
    ):
        with pytest.raises(ValueError, match=f"^{name} has shape {re.escape(str(shape))}, .* is needed"):
            call(np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match=f"^{name} holds values that are not finite"):
            call(np.full((5, 5, 3), np.nan, np.float32))


def test_targets_need_a_label_image():
    from tinynet.data import targets

    for labels in (np.zeros((5, 5)), np.zeros((5, 5), bool), np.zeros((5, 5, 1), int), np.full((5, 5), -1)):
        with pytest.raises((TypeError, ValueError), match=r"^targets: labels "):
            targets(labels, 3)
