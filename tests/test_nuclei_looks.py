"""Warnings about images that look unlike the training images: the measures, the ranges, and what is warned of."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from scipy import ndimage

import tinynet as tn
from tinynet.nuclei import looks

rng = np.random.default_rng(0)


def discs(centers=((30, 30), (30, 80), (80, 50)), radius=12, level=180, shape=(110, 110)):
    """(image, labels): bright discs on dark, with a little noise."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for number, (y, x) in enumerate(centers, start=1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = number
    image = np.where(labels > 0, level, 20) + np.random.default_rng(1).integers(0, 5, shape)
    return np.repeat(image[:, :, None], 3, axis=2).astype(np.uint8), labels


def test_measures_by_hand():
    image, labels = discs()
    found = looks.measures(image, labels)
    assert found["color"] == found["red minus blue"] == found["green minus the mean of red and blue"] == 0
    assert found["contrast"] == pytest.approx(164 / 255, abs=0.02)
    assert found["area covered by nuclei"] == pytest.approx((labels > 0).mean())
    assert found["nucleus minus surroundings"] == pytest.approx(0.98, abs=0.03)
    assert found["texture of a nucleus"] == pytest.approx(np.std(range(5)) / 164, rel=0.1)
    assert found["spread of the sizes"] == 1
    tinted = image.copy()
    tinted[:, :, 2] = 0
    found = looks.measures(tinted, labels)
    assert found["red minus blue"] == found["color"] == pytest.approx(image.mean() / 255)
    assert found["green minus the mean of red and blue"] == pytest.approx(image.mean() / 255 / 2)


@pytest.mark.parametrize("labels", ["none", "one pixel", "all", "one row"])
def test_odd_labels_are_measured_without_a_warning(labels):
    image, found = discs()
    found[:] = labels == "all"
    if labels == "one pixel":
        found[3, 3] = 7
    if labels == "one row":
        image, found = image[:1], np.arange(110, dtype=np.int32)[None]
    with np.errstate(all="raise"):
        values = looks.measures(image, found)
    assert np.isnan(values["area covered by nuclei"]) == (labels == "none") and np.isfinite(values["contrast"])


def samples(levels):
    return [tn.data.Sample(str(level), *discs(level=level), "fluorescence", str(level)) for level in levels]


def test_ranges_of_the_nuclei_have_a_wider_margin_than_those_of_the_image():
    """Outlines by hand and those that the net finds differ, the image does not."""
    known = looks.looks_of(samples([100, 140]), margin=0.1)["fluorescence"]
    values = [looks.measures(*discs(level=level)) for level in (100, 140)]
    for name, share in (("contrast", 0.1), ("texture of a nucleus", 0.25)):
        low, high = sorted(value[name] for value in values)
        more = share * max(looks.LEAST_WIDTH, high - low)
        assert known[name] == pytest.approx((low - more, high + more), abs=0.01 * looks.LEAST_WIDTH)


def test_ranges_hold_their_images_and_own_images_widen_them():
    known = looks.looks_of(samples([100, 120, 140]), margin=0)
    low, high = known["fluorescence"]["contrast"]
    assert (low, high) == pytest.approx((84 / 255, 124 / 255), abs=0.01)
    wider = looks.looks_of(samples([240]), known)
    assert wider["fluorescence"]["contrast"][0] == low and wider["fluorescence"]["contrast"][1] > 224 / 255
    image, labels = discs(level=240)
    assert looks.unlike(image, labels, known) and looks.unlike(image, labels, wider) == ""
    purple = [tn.data.Sample("p", *discs(), "histology", "p")]
    assert looks.looks_of(purple, known)["fluorescence"] == known["fluorescence"]
    assert "it looks like brightfield" in looks.unlike(255 - image, labels, wider)


def test_the_measure_that_is_farthest_out_is_named():
    known = {"fluorescence": {"contrast": (0.0, 0.5), "spread of the sizes": (2.0, 3.0)}}
    assert re.match(
        "spread of the sizes is 1, in the training images .fluorescence. at least 2$", looks.unlike(*discs(), known)
    )


@pytest.mark.parametrize(
    ("radius", "scale", "message"),
    [
        (None, 1.0, "no nucleus"),
        (12, 1.0, "^$"),
        (30, 1.0, "60 pixels wide"),
        (4, 1.0, "in the image that the net"),
        (30, None, "^$"),
    ],
)
def test_doubt_about_number_and_size(radius, scale, message):
    image, labels = discs(((55, 55),), radius or 12)
    everything = {"fluorescence": dict.fromkeys(looks.measures(image, labels), (-9.0, 99.0))}
    assert re.search(message, looks.doubt(image, labels * (radius is not None), everything, scale))


def test_the_example_is_not_doubted_and_noise_is():
    sample = tn.data.example_nuclei()
    shipped = looks.shipped_looks()
    assert looks.unlike(sample.image, sample.labels, shipped) == ""
    wider = ndimage.grey_dilation(sample.labels, (2, 2))  # somewhat larger nuclei, as the net finds them
    assert 0.44 < (wider > 0).mean() < 0.46 and looks.unlike(sample.image, wider, shipped) == ""
    noise = rng.integers(0, 255, sample.image.shape, dtype=np.uint8)
    assert looks.unlike(noise, sample.labels, shipped)
    assert set(shipped) == set(tn.data.nuclei.KINDS)


def test_the_table_is_made_by_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(looks, "read_nuclei", lambda path: samples([100, 120]))
    looks.main(["zip", "--out", str(tmp_path / "looks.csv")])
    monkeypatch.setattr(looks, "TABLE", tmp_path / "looks.csv")
    looks.shipped_looks.cache_clear()
    try:
        actual, expected = looks.shipped_looks(), looks.looks_of(samples([100, 120]), margin=looks.SHIPPED_MARGIN)
    finally:
        looks.shipped_looks.cache_clear()
    assert list(actual) == ["fluorescence"] and list(actual["fluorescence"]) == list(expected["fluorescence"])
    for name, bounds in expected["fluorescence"].items():
        assert actual["fluorescence"][name] == pytest.approx(bounds, rel=1e-3, abs=1e-6)
    with (tmp_path / "looks.csv").open() as file:
        assert list(next(csv.reader(file))) == ["kind", "measure", "lowest", "highest"]


def test_a_trained_net_knows_the_images_it_was_trained_on(tmp_path):
    own = {"fluorescence": {"contrast": [0.1, 0.2]}}
    unet = type(tn.nuclei.load_net().model)
    tn.io.save_weights(tmp_path / "w.npz", unet(1), {"settings": {"looks": own}})
    assert tn.nuclei.load_net(tmp_path / "w.npz").looks == own
    assert tn.nuclei.load_net().looks == looks.shipped_looks()
