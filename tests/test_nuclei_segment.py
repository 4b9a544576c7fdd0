"""`tinynet.nuclei.segment`: images of every kind and size, in tiles or in one piece, alone or several at once."""

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tinynet as tn
from tinynet import instances, segment
from tinynet.errors import CheckpointError, DataError
from tinynet.imaging.intensity import gray, normalization, normalize
from tinynet.nuclei import net as nets
from tinynet.nuclei import segmentation, tiles


class Fake:
    """Like a `Net`, with a known answer: pixels brighter than 0.4 are nucleus."""

    scale, path, heads = None, Path("fake.npz"), 1
    looks: ClassVar = {"fluorescence": {}, "histology": {}, "brightfield": {}}  # without ranges, nothing is unlike

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        assert images.dtype == np.float32 and images.shape[1] % 16 == images.shape[2] % 16 == 0
        self.batches.append(len(images))
        return (images.mean(axis=3, keepdims=True) > 0.4).astype(np.float32)


def discs(size, centers, radius):
    """An image (H, W) uint8 of bright discs on black."""
    y, x = np.ogrid[: size[0], : size[1]]
    image = np.zeros(size, np.uint8)
    for cy, cx in centers:
        image[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 200
    return image


def grid(size, step):
    return [(y, x) for y in range(step // 2, size[0], step) for x in range(step // 2, size[1], step)]


@pytest.fixture
def fake(monkeypatch):
    net = Fake()
    monkeypatch.setattr(segmentation, "kept_net", lambda weights: net)
    return net


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "CORE", 128)


# ---------------------------------------------------------------------------------------- kinds of images
def test_every_kind_of_array_gives_the_same_nuclei(fake):
    image = discs((100, 130), [(30, 30), (60, 100)], 12)
    expected = tn.nuclei.segment(image, flips=False)
    assert (expected.shape, expected.dtype, expected.max()) == ((100, 130), np.int32, 2)
    color = np.repeat(image[:, :, None], 3, axis=2)
    opaque = np.full((100, 130, 1), 255, np.uint8)
    for other in (
        *(image.astype(np.uint16) * 200, image / 255, image.astype(np.int32) - 100, image > 0),
        *(color, np.concatenate([color, opaque], axis=2), image[:, :, None], image.astype(">u2"), image[::-1][::-1]),
        255 - image,  # dark nuclei on a bright background
    ):
        np.testing.assert_array_equal(tn.nuclei.segment(other, flips=False), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((20, 20), np.nan), "image: 400 values are NaN or infinite"),
        (np.zeros((0, 20)), r"image: shape \(0, 20, 1\)"),
        (np.zeros((2, 20, 20, 3)), r"image: shape \(2, 20, 20, 3\); need \(H, W\) or"),
        (np.zeros((20, 20, 5)), "need .* with 1 to 4 channels"),
        (
            np.zeros((3, 64, 80)),
            r"segment: image has shape \(3, 64, 80\).*channels come first, .*moveaxis\(",
        ),
        (np.zeros(20), "shape"),
        (np.zeros((20, 20), complex), "dtype complex128"),
        (np.array([["a"]]), "dtype"),
    ],
)
def test_a_bad_image_is_named(fake, image, message):
    with pytest.raises(DataError, match=message):
        tn.nuclei.segment(image)
    with pytest.raises(DataError, match=message.replace("image", r"images\[1\]", 1) if "image" in message else message):
        tn.nuclei.segment_many(fake, [np.zeros((20, 20)), image])


@pytest.mark.parametrize("argument", ["diameter", "min_area"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "24", [24]])
def test_a_bad_number_is_named(fake, argument, value):
    with pytest.raises(ValueError, match=f"segment: {argument} is {re.escape(repr(value))}; a number of pixels"):
        tn.nuclei.segment(np.zeros((20, 20)), **{argument: value})


@pytest.mark.parametrize("diameter", [0, 4.7, 201])
def test_a_diameter_beyond_what_the_net_can_see_is_refused(fake, diameter):
    with pytest.raises(ValueError, match=r"from 4\.8 to 200 is needed: resize the image"):
        tn.nuclei.segment(np.zeros((20, 20)), diameter)


def test_a_net_of_native_images_takes_no_diameter(fake):
    fake.scale = 1.0
    image = discs((96, 96), [(40, 40)], 20)
    assert tn.nuclei.segment_many(fake, [image])[0].diameter == 24
    assert set(fake.batches) == {1} and tn.nuclei.segment(image, flips=False).max() == 1
    with pytest.raises(ValueError, match=r"fake\.npz was trained with --native, .* omit diameter"):
        tn.nuclei.segment(image, 30)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (17, 3), (40, 64)])
def test_empty_and_tiny_images(fake, size):
    for image in (np.zeros(size), np.full(size, 7), np.full(size, 255, np.uint8)):
        labels = tn.nuclei.segment(image)
        assert (labels.shape, labels.dtype, labels.max()) == (size, np.int32, 0)


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("radius", [6, 12, 26])
def test_discs_of_any_size_are_found_in_the_pixels_of_the_image(fake, radius, flips):
    """Scales above and below one: as many nuclei as discs, with nearly the same pixels."""
    step = 3 * radius
    centers = [(y, x) for y in (step, 2 * step) for x in (step, 2 * step, 3 * step)]
    image = discs((3 * step + 1, 4 * step + 5), centers, radius)
    labels = tn.nuclei.segment(image, flips=flips)
    assert sorted(labels[center] for center in centers) == list(range(1, 7)) == list(np.unique(labels)[1:])
    truth, found = image > 0, labels > 0
    assert (truth & found).sum() / (truth | found).sum() > 0.85


# ---------------------------------------------------------------------------------------- options
@pytest.mark.parametrize("diameter", [12, 24, 48])
def test_the_smallest_area_is_in_pixels_of_the_image(fake, diameter):
    image = np.maximum(discs((128, 128), [(40, 40)], diameter / 2), discs((128, 128), [(100, 100)], diameter / 5))
    areas = np.sort(np.bincount(instances.connected_components(image > 0).ravel())[1:])
    found = [tn.nuclei.segment(image, diameter, flips=False, min_area=area).max() for area in (0, *areas * 1.2, 1e9)]
    assert found == [2, 1, 0, 0]
    assert tn.nuclei.segment(image, diameter, flips=False).max() == 1, "a quarter of a nucleus is the usual limit"


@pytest.mark.parametrize("edge", [(0, 60), (119, 60), (60, 0), (60, 119)])
def test_nuclei_at_the_edge_are_excluded_and_the_others_renumbered(fake, edge):
    image = discs((120, 120), [edge, (40, 40), (80, 85)], 12)
    assert tn.nuclei.segment(image, 24, flips=False).max() == 3
    labels = tn.nuclei.segment(image, 24, flips=False, exclude_border=True)
    assert np.unique(labels).tolist() == [0, 1, 2] and labels[40, 40] and labels[80, 85] and not labels[edge]


def test_what_is_known_of_an_image_comes_with_its_labels(fake):
    wide, empty = tn.nuclei.segment_many(fake, [discs((200, 200), grid((200, 200), 50), 15), np.zeros((50, 50))])
    assert wide.diameter == pytest.approx(30, rel=0.1) and not wide.doubt
    assert "no nucleus was found" in empty.doubt
    assert (
        "wide, "
        in tn.nuclei.segment_many(fake, [discs((200, 200), grid((200, 200), 50), 15)], 100, min_area=0)[0].doubt
    )


# ---------------------------------------------------------------------------------------- several images
def test_several_images_are_found_as_each_alone_and_share_passes(fake):
    sizes = [(64, 80), (50, 50), (64, 80), (60, 70), (64, 80)]
    images = [discs(size, [(20, 20 + i), (40, 25)], 9 + i % 2) for i, size in enumerate(sizes)]
    for flips in (False, True):
        alone = [tn.nuclei.segment_many(fake, [image], flips=flips)[0] for image in images]
        together = tn.nuclei.segment_many(fake, images, flips=flips)
        for one, other in zip(alone, together):
            np.testing.assert_array_equal(one.labels, other.labels)
            assert (one.diameter, one.doubt) == (other.diameter, other.doubt)
    fake.batches.clear()
    tn.nuclei.segment_many(fake, images, 24, flips=False)
    assert sorted(fake.batches) == [1, 4], "four images have 64 x 80 pixels, padded"


def test_images_that_share_passes_are_limited_in_memory(fake, monkeypatch):
    monkeypatch.setattr(segmentation, "GROUP_PIXELS", 2500)
    images = [discs((50, 50), [(20, 20 + i)], 10) for i in range(3)]
    for found, image in zip(tn.nuclei.segment_many(fake, images, 20, flips=False), images):
        np.testing.assert_array_equal(found.labels, tn.nuclei.segment(image, 20, flips=False))
    assert fake.batches[:3] == [1, 1, 1] and tn.nuclei.segment_many(fake, []) == []


def test_guesses_of_one_size_are_predicted_once(fake):
    tn.nuclei.segment(np.zeros((40, 40)), flips=False)
    assert len(fake.batches) == 2, "without nuclei all three guesses are 24 pixels; then the image itself"


def test_with_a_diameter_the_net_sees_the_image_once(fake):
    image = discs((64, 96), [(32, 48)], 12)
    assert tn.nuclei.segment(image, 12, flips=False).max() == 1 and fake.batches == [1]


# ---------------------------------------------------------------------------------------- flips
def test_mirrored_predictions_come_back_in_place():
    """A net that answers with its input gives the image; one that answers with the row and column, their middle."""
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    tiled = tiles.Tiled(image, 1.0, flips=True)
    places = np.moveaxis(np.mgrid[:32, :48], 0, 2)[None]
    ((seen,), (mean,)) = (tiles.predict(net, list(tiled.tiles())) for net in (lambda x: x, lambda x: places))
    np.testing.assert_allclose(seen, tiled.view.part(tiled.cores[0]), atol=1e-6)
    np.testing.assert_array_equal(mean, np.broadcast_to([31 / 2, 47 / 2], mean.shape))


# ---------------------------------------------------------------------------------------- tiles
def whole_image(net, image, scale, flips):
    """What `segment` has to find, in the plainest way: the maps of the whole image, averaged, then the nuclei."""
    image = normalize(image)
    seen = [
        np.flip(segment.predict_maps(net, np.flip(image, axes), scale), axes) for axes in tiles.FLIPS[: 1 + 3 * flips]
    ]
    return segment.labels_at_scale(np.mean(seen, axis=0), scale, image.shape[:2])


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("scale", [0.55, 1.0, 1.7])
def test_one_tile_is_the_whole_image(fake, scale, flips):
    image = np.repeat(discs((150, 190), grid((150, 190), 40), 11)[:, :, None], 3, axis=2)
    expected = whole_image(fake, image, scale, flips)
    assert expected.max() == len(grid((150, 190), 40))
    np.testing.assert_array_equal(tn.nuclei.segment(image, segment.DIAMETER / scale, flips), expected)


@pytest.mark.parametrize(
    ("scale", "flips"),
    [(1.0, False), *(pytest.param(s, f, marks=pytest.mark.slow) for s in (0.5, 0.83, 1.9) for f in (False, True))],
)
def test_nuclei_on_seams_and_corners_are_whole(fake, small_tiles, scale, flips):
    """Discs on every seam and corner, and between: as many as without tiles, each with nearly the same pixels."""
    size, radius = (200, 300), 8 / scale
    tiled = tiles.Tiled(np.zeros((*size, 3), np.uint8), scale, flips)
    rows, columns = ({end for core in tiled.cores for end in (core[axis].start, core[axis].stop)} for axis in (0, 1))
    middles = [{(a + b) // 2 for a, b in zip(sorted(ends), sorted(ends)[1:])} for ends in (rows, columns)]
    centers = [(y, x) for y in rows | middles[0] for x in columns | middles[1]]
    inside = [(y, x) for y, x in centers if 0 < y < size[0] and 0 < x < size[1]]
    image = np.repeat(discs(size, centers, radius)[:, :, None], 3, axis=2)
    whole = whole_image(fake, image, scale, flips)
    calls = []
    labels = tn.nuclei.segment(image, 24 / scale, flips, progress=lambda *done: calls.append(done))
    assert len(tiled.cores) > 3 and calls == [(i + 1, len(tiled.cores)) for i in range(len(tiled.cores))]
    assert labels.max() == whole.max() >= len(inside)
    for number in range(1, whole.max() + 1):
        (other,) = np.unique(labels[(whole == number) & (labels > 0)])
        assert np.sum((whole == number) & (labels == other)) > 0.95 * np.sum((whole == number) | (labels == other))


def test_touching_nuclei_on_a_corner_stay_two(fake, small_tiles):
    image = discs((256, 256), [(128, 117), (128, 139)], 12)
    labels = tn.nuclei.segment(image, 24, flips=False)
    assert labels.max() == 2 and labels[128, 117] != labels[128, 139]


def test_a_nucleus_larger_than_a_tile_and_its_margin_is_one(fake, small_tiles, monkeypatch):
    monkeypatch.setattr(tiles, "KEEP", 16)  # and the watershed does not cut it, because it is one plateau
    monkeypatch.setattr(segment, "distance_watershed", lambda mask, **_: instances.connected_components(mask))
    image = discs((500, 500), [(250, 250)], 200)
    image[250:] &= discs((250, 500), [(0, 250)], 150) ^ 200  # an arch, whose feet meet no tile but those above them
    labels = tn.nuclei.segment(image, 24, flips=False, min_area=np.count_nonzero(image))  # more than in any one tile
    np.testing.assert_array_equal(labels, image > 0)


def test_the_margin_is_needed(fake, small_tiles, monkeypatch):
    """The tests above can fail: without a margin a disc on a seam is two."""
    monkeypatch.setattr(tiles, "KEEP", 0)
    assert tn.nuclei.segment(discs((256, 256), [(128, 60)], 12), 24, flips=False).max() == 2


def test_the_area_of_a_nucleus_counts_in_all_tiles(fake, small_tiles):
    image = discs((256, 256), [(128, 128)], 12)
    area = np.count_nonzero(image)
    assert [tn.nuclei.segment(image, 24, False, limit).max() for limit in (area * 0.9, area * 1.1)] == [1, 0]
    assert tn.nuclei.segment(discs((256, 256), [(2, 128)], 12), 24, False, exclude_border=True).max() == 0


@pytest.mark.parametrize(
    ("scale", "flips"),
    [(0.7, True), *(pytest.param(s, f, marks=pytest.mark.slow) for s in (1.0, 1.3) for f in (False, True))],
)
def test_the_maps_of_tiles_are_those_of_the_whole_image(small_tiles, scale, flips):
    """With a U-Net of random weights, whose output depends on pixels 100 pixels away."""
    tn.seed(3)
    model = nets.load_example("segmentation/unet_nuclei.py").UNet(heads=1).eval()
    net = nets.Net(model, None, Path("none.npz"))
    image = np.random.default_rng(0).integers(0, 255, (24, 260, 3), np.uint8)
    tiled = tiles.Tiled(image, scale, flips)
    whole = tiles.Tiled(image, scale, flips)
    object.__setattr__(whole, "cores", [(slice(0, 24), slice(0, 260))])
    (everything,) = tiles.predict(net, list(whole.tiles()))
    for tile in tiled.tiles():
        (maps,) = tiles.predict(net, [tile])
        np.testing.assert_allclose(maps, everything[tile.part], rtol=0, atol=3e-5)


def test_same_nuclei():
    first = np.array([[1, 1, 1, 0, 2, 2, 4, 4]])
    second = np.array([[7, 7, 0, 0, 8, 9, 5, 5]])
    assert tiles.same_nuclei(first, second).tolist() == [[1, 4], [7, 5]], "8 and 9 are each a half of 2, not more"
    assert tiles.same_nuclei(first, 0 * second).shape == (2, 0)


# ---------------------------------------------------------------------------------------- parts of it
@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), st.booleans())
def test_the_counted_levels_have_the_percentiles_of_the_image(image, as_float):
    levels = gray(image)
    inverted = np.median(levels) > 127
    low, high = np.percentile(255 - levels.astype(float) if inverted else levels.astype(float), [1, 99.7])
    slope, offset = normalization(image.astype(np.float32) if as_float else image)
    assert slope == pytest.approx((-1 if inverted else 1) / max(high - low, 1), rel=1e-4)
    assert offset == pytest.approx(((255 - low) if inverted else -low) / max(high - low, 1), rel=1e-4, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2)))
@example(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.int32))
def test_holes_are_filled_as_by_a_look_at_each_nucleus(labels):
    from scipy import ndimage

    expected, actual = labels.copy(), labels.copy()
    for label in (1, 2):
        inside = ndimage.binary_fill_holes(expected == label)
        expected[inside & (expected == 0)] = label
    instances._fill_holes(actual)
    np.testing.assert_array_equal(actual, expected)


def test_a_net_is_kept_until_its_file_changes(tmp_path):
    assert nets.kept_net() is nets.kept_net() is nets.kept_net(nets.SHIPPED_WEIGHTS)
    assert nets.load_net() is not nets.load_net()
    with pytest.raises(CheckpointError, match=r"missing\.npz"):
        tn.nuclei.segment(np.zeros((20, 20)), weights=tmp_path / "missing.npz")


def test_weights_may_be_named_shipped_and_a_folder_is_refused_with_what_to_do(tmp_path):
    assert nets.load_net("shipped").path == nets.kept_net("shipped").path == nets.SHIPPED_WEIGHTS
    with pytest.raises(CheckpointError, match=r"is a folder; name a file of weights in it, such as .*best\.npz"):
        nets.load_net(tmp_path)


def test_the_shipped_net_finds_the_nuclei_of_the_example():
    sample = tn.data.example_nuclei()
    labels = tn.nuclei.segment(sample.image[:128, :128], flips=False)
    assert tn.metrics.mean_ap(sample.labels[:128, :128], labels) > 0.4
