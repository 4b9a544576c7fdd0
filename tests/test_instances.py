"""From masks to nuclei: separation, measurement, run-length files."""

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tinynet import instances, metrics
from tinynet.files import atomic_path


def disc(shape, y, x, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


TWO_TOUCHING = disc((40, 60), 20, 20, 11) | disc((40, 60), 20, 39, 11)


# --- foreground ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("background", "nucleus"),
    [(10, 60), (200, 90), (30, 120), (100, 5)],
    ids=["dim fluorescence", "bright tissue", "fluorescence", "dark, yet nuclei are the smaller dark part"],
)
def test_otsu_finds_the_disc(background, nucleus):
    mask = disc((50, 50), 25, 25, 12)
    gray = np.where(mask, nucleus, background).astype(np.uint8)
    found = instances.otsu_foreground(np.repeat(gray[..., None], 3, axis=2))
    assert found.dtype == bool
    assert metrics.dice(mask, found) > 0.98  # the opening may round corners


def test_otsu_takes_the_dark_side_of_a_bright_image():
    gray = np.full((50, 50), 100, np.uint8)
    gray[:, 30:] = 240  # the smaller part; but in a bright image, nuclei are dark
    found = instances.otsu_foreground(np.repeat(gray[..., None], 3, axis=2))
    np.testing.assert_array_equal(found[1:-1, 1:-1], gray[1:-1, 1:-1] == 100)


def test_opening_removes_specks_and_one_gray_has_no_foreground():
    image = np.zeros((20, 20, 3), np.uint8)
    image[5, 5] = image[10:12, 10:12] = 200
    assert not instances.otsu_foreground(image).any()
    assert not instances.otsu_foreground(np.full((20, 20, 3), 255, np.uint8)).any()


# --- separation ---------------------------------------------------------------------------------------------


def test_components_are_8_connected():
    mask = np.eye(4, dtype=bool)
    mask[0, 3] = True
    labels = instances.connected_components(mask)
    assert labels.dtype == np.int32
    assert labels.max() == 2
    assert len(set(labels[np.eye(4, dtype=bool)])) == 1


def test_watershed_cuts_at_the_neck():
    assert instances.connected_components(TWO_TOUCHING).max() == 1
    labels = instances.distance_watershed(TWO_TOUCHING)
    assert labels.max() == 2
    np.testing.assert_array_equal(labels > 0, TWO_TOUCHING)
    assert labels[20, 20] != labels[20, 39]
    assert np.all(labels[:, :29] * TWO_TOUCHING[:, :29] == labels[20, 20] * TWO_TOUCHING[:, :29])


def test_watershed_cuts_at_the_neck_of_unequal_nuclei():
    small, large = disc((40, 60), 20, 12, 6), disc((40, 60), 20, 32, 15)
    labels = instances.distance_watershed(small | large)
    assert labels.max() == 2
    assert metrics.mean_ap(np.where(large, 2, small), labels) > 0.85


def test_smoothing_keeps_a_ragged_nucleus_whole():
    rng = np.random.default_rng(1)
    ragged = disc((40, 40), 20, 20, 12) & ~((rng.random((40, 40)) < 0.04) & ~disc((40, 40), 20, 20, 4))
    pieces = [instances.distance_watershed(ragged, sigma=sigma).max() for sigma in (0, 1, 3)]
    assert pieces[0] > pieces[1] >= pieces[2] == 1


def test_watershed_sees_nuclei_at_the_image_border_and_over_corners():
    cut = disc((30, 30), 0, 15, 8)  # its deepest point lies on the border
    assert instances.distance_watershed(cut).max() == 1
    corner = disc((30, 30), 15, 15, 6)
    corner[9 - 1, 15 - 1] = True  # touches only by a corner: the same component, which must keep every pixel
    assert instances.connected_components(corner).max() == 1
    np.testing.assert_array_equal(instances.distance_watershed(corner) > 0, corner)


def test_empty_mask_gives_no_nuclei():
    nothing = np.zeros((8, 9), bool)
    assert not instances.connected_components(nothing).any()
    assert not instances.distance_watershed(nothing).any()
    zeros = nothing.astype(np.float32)
    assert not instances.seeded_watershed(zeros, zeros).any()


def test_min_distance_keeps_close_peaks_together():
    assert instances.distance_watershed(TWO_TOUCHING, min_distance=30).max() == 1


def touching_maps():
    """A perfect prediction for two touching discs: the mask, and a border of two pixels on each side of the cut."""
    border = np.zeros(TWO_TOUCHING.shape, np.float32)
    border[:, 28:32] = TWO_TOUCHING[:, 28:32]
    return TWO_TOUCHING.astype(np.float32), border


def test_seeds_are_regrown_over_the_border():
    mask, border = touching_maps()
    labels = instances.seeded_watershed(mask, border)
    assert labels.dtype == np.int32
    assert sorted(np.unique(labels)) == [0, 1, 2]
    np.testing.assert_array_equal(labels > 0, mask > 0.5)  # every pixel of the border belongs to a nucleus
    assert instances.seeded_watershed(mask, 0 * border).max() == 1


def test_the_cut_follows_the_crest_of_the_border():
    mask = np.ones((10, 40), np.float32)
    border = np.interp(np.arange(40), [10, 30, 34], [0, 1, 0]).astype(np.float32)  # steep on the right
    labels = instances.seeded_watershed(mask, np.tile(border, (10, 1)))
    # The seeds end at columns 21 and 32; the border does not lie halfway between them.
    left = np.count_nonzero(labels == labels[0, 0], axis=1)
    assert np.all((left >= 30) & (left <= 31))


def test_a_component_without_a_seed_is_one():
    mask, border = touching_maps()
    border[:, 35:] = 0.8 * mask[:, 35:]  # nothing of the right disc exceeds the seed threshold
    mask[0:3, 0:3] = 0.7
    border[0:3, 0:3] = 0.6  # an island that is all border
    labels = instances.seeded_watershed(mask, border, min_size=5)
    assert labels[1, 1] > 0
    assert (labels == labels[1, 1]).sum() == 9
    assert labels[20, 20] != labels[1, 1]


def test_seeds_and_regrowth_are_8_connected():
    mask = np.zeros((20, 20), np.float32)
    mask[2:8, 2:8] = mask[8:14, 8:14] = 1  # two squares that touch in a corner only
    assert instances.seeded_watershed(mask, 0 * mask, min_size=1).max() == 1
    border = 0.9 * mask
    border[2:8, 2:8] = 0  # a seed in the first square only: it grows through the corner
    assert np.unique(instances.seeded_watershed(mask, border, min_size=1)[mask > 0]).tolist() == [1]


def test_seeds_do_not_join_outside_of_the_mask():
    """Between two nuclei the net is rather sure (0.45), which is above the seed threshold, not above the mask's."""
    mask = np.full((10, 21), 0.45, np.float32)
    mask[:, :10] = mask[:, 11:] = 0.9
    labels = instances.seeded_watershed(mask, 0 * mask, seed_threshold=0.4, mask_threshold=0.5, min_size=1)
    assert np.unique(labels[0]).tolist() == [0, 1, 2] and not labels[:, 10].any()


def test_tiny_seeds_do_not_count_small_nuclei_go_and_holes_are_filled():
    mask = np.zeros((40, 60), np.float32)
    mask[TWO_TOUCHING] = 0.6
    border = np.full_like(mask, 0.5)  # inside = 0.1 everywhere ...
    border[20, 15:25] = 0.0  # ... but for a seed of ten pixels on the left
    border[20, 39:41] = 0.0  # and one of two on the right
    assert instances.seeded_watershed(mask, border, min_seed=3).max() == 1
    assert instances.seeded_watershed(mask, border, min_seed=2).max() == 2

    mask[2:6, 2:6] = 1.0
    mask[15, 20] = 0.0
    labels = instances.seeded_watershed(mask, border, min_size=17)
    assert labels.max() == 1
    assert labels[15, 20] == 1
    assert instances.seeded_watershed(mask, border, min_size=16).max() == 2


def test_a_hole_is_filled_by_its_own_nucleus_only():
    ring = disc((40, 40), 20, 20, 15) & ~disc((40, 40), 20, 20, 9)
    inner = disc((40, 40), 20, 20, 5)
    mask = (ring | inner).astype(np.float32)
    labels = instances.seeded_watershed(mask, np.zeros_like(mask), min_size=1)
    assert labels[20, 20] not in (0, labels[20, 7])  # the nucleus inside the ring keeps its label
    assert labels[20, 13] == labels[20, 7]  # the gap between them belongs to the ring


# --- numbers ------------------------------------------------------------------------------------------------


def test_median_diameter_by_hand():
    labels = np.zeros((30, 30), np.int32)
    labels[:3, :3], labels[5:7, :10], labels[10:20, :4] = 4, 9, 2  # areas 9, 20, 40
    assert instances.median_diameter(labels) == pytest.approx(2 * np.sqrt(20 / np.pi))
    assert instances.median_diameter(labels, area_weighted=True) == pytest.approx(2 * np.sqrt(40 / np.pi))
    assert np.isnan(instances.median_diameter(np.zeros((5, 5), int)))
    large = np.zeros((3 * instances.STRIP, 2), np.uint16)
    large[5:-10, 0] = 60_000  # counted in three strips
    large[-40:, 1] = 7
    assert instances._areas(large).tolist() == [40, 3 * instances.STRIP - 15]


def test_measure_by_hand():
    labels = np.zeros((20, 30), np.int32)
    labels[4:8, 10:16] = 7
    labels[0, 0] = 2
    image = np.zeros((20, 30, 3), np.uint8)
    image[4:8, 10:13] = (30, 60, 90)
    dot, box = instances.measure(labels, image)
    assert (dot["id"], dot["area"], dot["circularity"]) == (2, 1, 1.0)
    assert (box["id"], box["area"], box["mean_intensity"]) == (7, 24, 30.0)
    assert (box["centroid_y"], box["centroid_x"]) == (5.5, 12.5)
    assert (box["top"], box["left"], box["bottom"], box["right"]) == (4, 10, 8, 16)
    intensities = ["mean_intensity", "min_intensity", "max_intensity", "integrated_intensity"]
    assert list(dot) == list(box) == ["id", *instances.MEASUREMENTS, *intensities]
    assert [dot["touches_border"], box["touches_border"]] == [1, 0]


def test_perimeter_and_circularity_of_known_shapes():
    labels = np.zeros((90, 60), np.int32)
    labels[disc(labels.shape, 12, 12, 6)], labels[disc(labels.shape, 30, 30, 15)] = 1, 2
    labels[50:53, 5:55] = 3
    rows, columns = np.ogrid[:90, :60]
    labels[((rows - 72) / 10) ** 2 + ((columns - 30) / 20) ** 2 <= 1] = 4
    small, large, bar, ellipse = instances.measure(labels, np.zeros((90, 60, 3), np.uint8))
    for row, perimeter in ((small, 2 * np.pi * 6), (large, 2 * np.pi * 15), (ellipse, 96.88)):
        assert row["perimeter"] == pytest.approx(perimeter, rel=0.05)
    assert small["circularity"] > 0.9
    assert large["circularity"] > 0.9
    assert ellipse["circularity"] == pytest.approx(0.84, abs=0.03)
    assert bar["circularity"] < 0.3
    assert instances.measure(np.zeros((4, 4), int), np.zeros((4, 4, 3), np.uint8)) == []


# --- files --------------------------------------------------------------------------------------------------


def test_runs_are_column_major_and_counted_from_one():
    labels = np.array([[1, 0, 2], [1, 1, 2]])
    assert instances.encode_runs(labels) == ["1 2 4 1", "5 2"]
    assert instances.encode_runs(np.zeros((3, 3), int)) == []


@settings(deadline=None, max_examples=30)
@given(arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.sampled_from([0, 0, 3, 7, 8])))
def test_decoding_gives_the_labels_back(labels):
    decoded = instances.decode_runs(instances.encode_runs(labels), labels.shape)
    present, renumbered = np.unique(np.append(labels, 0), return_inverse=True)
    np.testing.assert_array_equal(decoded, renumbered[:-1].reshape(labels.shape))
    assert decoded.dtype == np.int32
    assert present[0] == 0


def test_overlapping_runs_leave_the_pixel_to_the_first():
    np.testing.assert_array_equal(instances.decode_runs(["1 2", "", "2 2"], (4, 1)).ravel(), [1, 1, 2, 0])


@pytest.mark.parametrize("bad", ["1 2 3", "a b", "0 2", "3 0", "5 3", "-1 1"])
def test_bad_runs_are_shown(bad):
    with pytest.raises(ValueError, match=f"decode_runs: run 2 .*'{bad}'"):
        instances.decode_runs(["1 1", bad], (2, 3))


def test_submission_has_a_row_for_every_nucleus_and_every_image(tmp_path):
    labels = np.array([[1, 0, 2], [1, 1, 2]])
    path = tmp_path / "new folder" / "submission.csv"
    instances.write_submission(path, [("a", labels), ("empty", 0 * labels), ("b, c", labels[:, :1])])
    text = path.read_text().splitlines()
    assert text == ["ImageId,EncodedPixels", "a,1 2 4 1", "a,5 2", "empty,", '"b, c",1 2']


def test_measurements_as_a_table(tmp_path):
    labels = np.array([[1, 0, 2], [1, 1, 2]])
    image = np.full((2, 3, 3), 10, np.uint8)
    rows = instances.measure(labels, image)
    columns = ("id", *instances.MEASUREMENTS, "mean_DAPI")
    instances.write_measurements(tmp_path / "m.csv", [("one", rows), ("none", []), ("two", rows[:1])], columns)
    with open(tmp_path / "m.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["image", *columns]
    assert [(row["image"], row["id"], row["area"]) for row in read] == [
        ("one", "1", "3"),
        ("one", "2", "2"),
        ("two", "1", "3"),
    ]
    assert (read[0]["centroid_y"], read[0]["mean_DAPI"]) == ("0.6666667", "")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("old")
    with pytest.raises(TypeError, match="labels has dtype float64"):
        instances.write_submission(path, [("a", np.ones((2, 2), int)), ("b", np.ones((2, 2)))])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["submission.csv"]


def test_atomic_path_keeps_the_suffix_and_the_folder(tmp_path):
    with atomic_path(tmp_path / "a.tif") as temporary:
        assert (temporary.suffix, temporary.parent) == (".tif", tmp_path)
        temporary.write_text("new")
        assert not (tmp_path / "a.tif").exists()
    assert (tmp_path / "a.tif").read_text() == "new"


# --- wrong input --------------------------------------------------------------------------------------------


def test_bad_input_is_named():
    mask, image = np.ones((4, 4), bool), np.zeros((4, 4, 3), np.uint8)
    maps = np.zeros((4, 4), np.float32)
    with pytest.raises(TypeError, match="distance_watershed: mask has dtype float64, bool is needed"):
        instances.distance_watershed(mask.astype(float))
    with pytest.raises(ValueError, match=r"connected_components: mask has shape \(0, 4\)"):
        instances.connected_components(mask[:0])
    with pytest.raises(TypeError, match="border_prob has dtype bool"):
        instances.seeded_watershed(maps, mask)
    with pytest.raises(ValueError, match=r"border_prob has shape \(3, 4\), mask_prob \(4, 4\)"):
        instances.seeded_watershed(maps, maps[:3])
    with pytest.raises(ValueError, match="mask_prob holds values that are not finite"):
        instances.seeded_watershed(maps * np.nan, maps)
    with pytest.raises(ValueError, match=r"measure: labels have shape \(3, 4\), image \(4, 4, 3\)"):
        instances.measure(np.zeros((3, 4), int), image)


# --- the real images ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_baselines_reproduce_their_published_scores():
    """All 664 training images: Otsu + components, Otsu + watershed, then both with a perfect mask, which bounds every
    network, and a perfect mask with a perfect border.
    """
    folder = os.environ.get("TINYNET_DATA")
    if not folder:
        pytest.skip("TINYNET_DATA is not set: no real images")
    archive = Path(folder) / "dsb2018" / "stage1_train.zip"
    if not archive.exists():
        pytest.skip(f"{archive} does not exist")
    from tinynet.data.nuclei import read_nuclei

    samples = read_nuclei(archive, progress=False)
    if len(samples) != 664:
        pytest.skip(f"{archive} holds {len(samples)} images: the original masks; the figures belong to 664 corrected")

    def touching_border(labels):
        """Pixels whose 5x5 window holds two nuclei."""
        highest = ndimage.maximum_filter(labels, 5)
        lowest = ndimage.minimum_filter(np.where(labels > 0, labels, labels.max() + 1), 5)
        return ((highest > 0) & (lowest != highest)).astype(np.float32)

    def scores(sample):
        mask, perfect = instances.otsu_foreground(sample.image), sample.labels > 0
        found = (
            instances.connected_components(mask),
            instances.distance_watershed(mask),
            instances.connected_components(perfect),
            instances.distance_watershed(perfect),
            instances.seeded_watershed(perfect.astype(np.float32), touching_border(sample.labels), min_size=1),
        )
        return [metrics.mean_ap(sample.labels, labels) for labels in found]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        means = np.mean(list(pool.map(scores, samples)), axis=0)
    np.testing.assert_allclose(means, [0.421, 0.445, 0.754, 0.823, 0.991], atol=0.005)
