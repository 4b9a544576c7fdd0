"""Synthetic nuclei against the percentiles (5, 25, 50, 75, 95) measured on the real images."""

import numpy as np
import pytest
from nuclei_files import REAL_ZIP, real_data
from scipy import ndimage
from skimage.measure import regionprops

from tinynet.data.nuclei import gray, image_kind, read_nuclei, split_table
from tinynet.data.synthetic import synthetic_nuclei
from tinynet.imaging.instances import otsu_watershed
from tinynet.imaging.metrics import mean_ap

# Measured on 541 fluorescence and 107 purple images of the Data Science Bowl, stage 1 train. Shapes and variation are
# percentiles over nuclei, the others over images.
REAL = {
    "fluorescence": {
        "diameter": (7, 12, 20, 28, 50),
        "axis ratio": (1.08, 1.25, 1.46, 1.74, 2.60),
        "solidity": (0.90, 0.95, 0.96, 0.97, 0.99),
        "count": (4, 10, 16, 32, 65),
        "coverage": (0.01, 0.03, 0.09, 0.22, 0.32),
        "touching": (0, 0.03, 0.17, 0.30, 0.50),
        "foreground": (22, 32, 49, 74, 120),
        "background": (2, 3, 5, 13, 15),
        "fine variation": (0.5, 0.6, 0.7, 1.0, 2.0),
        "coarse variation": (1.1, 2.1, 2.8, 4.4, 8.4),
        "variation inside": (0.13, 0.17, 0.21, 0.28, 0.47),
    },
    "histology": {
        "diameter": (8, 13, 19, 24, 40),
        "axis ratio": (1.12, 1.34, 1.68, 2.21, 3.78),
        "solidity": (0.83, 0.92, 0.95, 0.97, 0.98),
        "count": (7, 14, 26, 51, 78),
        "coverage": (0.05, 0.13, 0.20, 0.29, 0.39),
        "touching": (0, 0.22, 0.36, 0.47, 0.67),
        "foreground": (110, 117, 130, 139, 149),
        "background": (176, 179, 181, 205, 214),
        "fine variation": (1.1, 1.7, 2.1, 2.6, 3.3),
        "coarse variation": (2, 7, 10, 12, 14),
        "variation inside": (0.04, 0.08, 0.11, 0.15, 0.22),
    },
}
# The largest difference of a synthetic percentile from the real one: (factor, amount), the larger of both counts. The
# outer two percentiles may differ by factor^2 and twice the amount.
TOLERANCE = {
    "diameter": (1.25, 0),
    "axis ratio": (1.15, 0),
    "solidity": (1.0, 0.03),
    "count": (1.7, 2),
    "coverage": (1.7, 0.05),
    "touching": (1.0, 0.15),
    "foreground": (1.3, 0),
    "background": (1.3, 2),
    "fine variation": (1.5, 0.2),
    "coarse variation": (1.6, 0),
    "variation inside": (1.45, 0.02),
}


def measure(sample) -> dict[str, list[float]]:
    """The quantities of the table for one image."""
    image, labels = gray(sample.image), sample.labels
    inside = labels > 0
    nuclei = [r for r in regionprops(labels) if r.area >= 8]
    levels = [image[r.slice][r.image] for r in nuclei]
    largest = ndimage.maximum_filter(labels, 3)
    smallest = ndimage.minimum_filter(np.where(inside, labels, labels.max() + 1), 3)
    touching = np.unique(labels[inside & (largest != smallest)])
    far = ndimage.minimum_filter((~inside).astype(np.uint8), 5) > 0
    return {
        "diameter": [r.equivalent_diameter_area for r in nuclei],
        "axis ratio": [r.axis_major_length / max(r.axis_minor_length, 1) for r in nuclei],
        "solidity": [r.solidity for r in nuclei[::3]],  # convex hulls take long
        "count": [len(nuclei) * 256**2 / labels.size],
        "coverage": [inside.mean()],
        "touching": [len(touching) / max(len(nuclei), 1)],
        "foreground": [image[inside].mean()],
        "background": [np.median(image[far])],
        "fine variation": [(image - ndimage.gaussian_filter(image, 2))[far].std()],
        "coarse variation": [ndimage.gaussian_filter(image, 8)[far].std()],
        "variation inside": [v.std() / max(v.mean(), 1) for v in levels],
    }


@pytest.fixture(scope="module", params=REAL)
def kind_and_samples(request):
    rng = np.random.default_rng(2018)
    return request.param, [synthetic_nuclei(rng, request.param) for _ in range(70)]


def deviations(kind: str, samples: list) -> list[str]:
    """The percentiles that differ from the table by more than the tolerance, as sentences."""
    measured = [measure(sample) for sample in samples]
    wrong = []
    for quantity, real in REAL[kind].items():
        values = np.concatenate([m[quantity] for m in measured])
        factor, amount = TOLERANCE[quantity]
        for percent, is_outer, expected in zip((5, 25, 50, 75, 95), (1, 0, 0, 0, 1), real, strict=True):
            actual = np.percentile(values, percent)
            factor_here, amount_here = factor ** (1 + is_outer), amount * (1 + is_outer)
            if (
                not min(expected / factor_here, expected - amount_here)
                <= actual
                <= max(expected * factor_here, expected + amount_here)
            ):
                wrong.append(f"{quantity}, percentile {percent}: {actual:.3g}, real {expected:.3g}")
    return wrong


def test_percentiles_match_the_real_images(kind_and_samples):
    wrong = deviations(*kind_and_samples)
    assert not wrong, "\n".join(wrong)


def test_another_population_would_be_noticed():
    """Fluorescence differs from the table of histology in nearly every quantity."""
    rng = np.random.default_rng(0)
    assert len(deviations("histology", [synthetic_nuclei(rng) for _ in range(20)])) > 15


@pytest.mark.slow
@real_data
@pytest.mark.parametrize("kind", REAL)
def test_the_real_images_measured_so_give_the_table(kind):
    ids = [row["id"] for row in split_table() if row["kind"] == kind]
    samples = read_nuclei(REAL_ZIP, ids=ids[:: 4 if kind == "fluorescence" else 1])
    wrong = deviations(kind, samples)
    assert not wrong, "\n".join(wrong)


def test_labels_are_whole_nuclei_with_consecutive_numbers(kind_and_samples):
    kind, samples = kind_and_samples
    for sample in samples[:20]:
        assert sample.image.shape == (256, 256, 3) and sample.image.dtype == np.uint8
        assert sample.labels.dtype == np.int32 and sample.labels.max() >= 1
        for number in range(1, sample.labels.max() + 1):
            assert ndimage.label(sample.labels == number, np.ones((3, 3)))[1] == 1  # exactly one component
    assert np.mean([image_kind(sample.image) == kind for sample in samples]) == 1


def test_histology_is_purple():
    rng = np.random.default_rng(4)
    for _ in range(10):
        sample = synthetic_nuclei(rng, "histology")
        red, green, blue = np.median(sample.image[sample.labels > 0], axis=0)
        assert blue > red > green


def test_touching_and_dim_nuclei_are_hard_for_a_threshold(kind_and_samples):
    """A net can do better: Otsu and a distance watershed find about half of the nuclei."""
    _, samples = kind_and_samples
    score = np.mean([mean_ap(s.labels, otsu_watershed(s.image)) for s in samples[:30]])
    assert 0.25 < score < 0.70


def test_seed_decides_and_size_is_free():
    first, again, other = (synthetic_nuclei(np.random.default_rng(s), size=100) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image)
    assert first.image.shape == (100, 100, 3)
    for seed in range(20):
        assert synthetic_nuclei(np.random.default_rng(seed), "histology", size=33).labels.shape == (33, 33)


def test_bad_arguments():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="kind 'brightfield'; need one of fluorescence, histology"):
        synthetic_nuclei(rng, "brightfield")
    with pytest.raises(ValueError, match="size 8"):
        synthetic_nuclei(rng, size=8)
