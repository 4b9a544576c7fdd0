"""The exact parts of examples/segmentation/class_imbalance.py: losses, first bias, windows, parts, threshold."""

from __future__ import annotations

import numpy as np
import pytest
from test_nn_gradients import check_net

import tinynet as tn
from tinynet import metrics
from tinynet.data import DataError, Sample, validation_ids
from tinynet.data.nuclei import split_table
from tinynet.tools.bench.examples import load_example

script = load_example("segmentation/class_imbalance.py")


def cross_entropy(logits, target):
    return np.log1p(np.exp(np.where(target == 1, -logits, logits)))


@pytest.mark.parametrize("positives", [0, 2, 9])
def test_hard_negatives_are_three_for_each_positive(positives):
    rng = np.random.default_rng(positives)
    logits = rng.standard_normal((2, 4, 4, 1))
    target = np.zeros(32)
    target[rng.permutation(32)[:positives]] = 1
    target = target.reshape(logits.shape)
    losses = cross_entropy(logits, target)
    hardest = np.sort(losses[target == 0])[-max(1, 3 * positives) :].mean()
    expected = (losses[target == 1].mean() + 3 * hardest) / 4 if positives else hardest
    assert script.hard_negatives(tn.tensor(logits), target).item() == pytest.approx(expected, rel=1e-12)
    weighted = (losses * np.where(target == 1, 99, 1)).mean()
    assert script.weighted(tn.tensor(logits), target).item() == pytest.approx(weighted, rel=1e-12)


@pytest.mark.parametrize("prior", [0.5, 0.01])
def test_the_first_prediction_is_the_prior(prior):
    net = script.SmallUNet(prior, (2, 3, 4))
    net.head.weight.data[...] = 0
    image = np.random.default_rng(0).random((1, 8, 8, 1), np.float32)
    np.testing.assert_allclose(tn.sigmoid(net(tn.tensor(image))).numpy(), prior, rtol=1e-6)


def test_gradients_of_the_net():
    rng = np.random.default_rng(1)
    net = script.SmallUNet(0.01, (2, 3, 2))
    check_net(net, rng.standard_normal((1, 8, 4, 1)), rng)


def test_windows_have_few_nuclei_and_do_not_overlap():
    i, j = np.indices((256, 256)) // 16
    labels = np.zeros((256, 256), np.int32)
    for row in range(3):
        labels[row + 5 :: 32, 7::32] = labels[row + 5 :: 32, 8::32] = labels[row + 5 :: 32, 9::32] = 1
    blocks = np.repeat((16 * i + j)[..., None], 3, 2).astype(
        np.uint8
    )  # each block of 16 x 16 pixels has its gray value
    sample = Sample("dots", blocks, labels, "fluorescence", "dots")
    dense = Sample("dense", blocks, np.ones_like(labels), "fluorescence", "dense")
    for per_image, found in ((3, 3), (64, 30)):
        config = script.Config(size=32, per_image=per_image)
        windows = script.sparse_windows([sample, dense], config, np.random.default_rng(0))
        assert len(windows) == found if per_image == 3 else len(windows) > found
        assert all(mask.sum() == 9 for mask in windows.masks), "9 of 1024 pixels, 0.9 %"
        grays, counts = np.unique(windows.images, return_counts=True)
        assert len(grays) == 4 * len(windows) and (counts == 256).all(), "no block is in two windows"
    with pytest.raises(DataError, match=r"1 images hold no window of 32 pixels of which 0.5% to 1.2% are nuclei"):
        script.sparse_windows([dense], config, np.random.default_rng(0))


def test_image_and_mask_are_turned_together():
    images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    windows = script.Windows(images, images)
    seen = set()
    for seed in range(40):
        image, mask = windows.turned(np.array([2]), np.random.default_rng(seed))
        np.testing.assert_array_equal(image, mask)
        assert sorted(image.ravel()) == sorted(images[2].ravel())
        seen.add(image.tobytes())
    assert len(seen) == 8


def test_parts_share_no_experiment():
    parts = script.ids_of_parts(5, np.random.default_rng(0))
    group = {row["id"]: row["group"] for row in split_table()}
    groups = {part: {group[i] for i in ids} for part, ids in parts.items()}
    assert not any(
        groups[a] & groups[b] for a, b in (("train", "validation"), ("train", "test"), ("validation", "test"))
    )
    assert set(parts["test"]) <= validation_ids() and not (validation_ids() & {*parts["train"], *parts["validation"]})
    assert all(sum(group[i] == g for i in parts["train"]) <= 5 for g in groups["train"]) and min(
        map(len, parts.values())
    )


def test_the_threshold_with_the_highest_dice():
    rng = np.random.default_rng(0)
    true = rng.random(300) < 0.1
    logits = (rng.standard_normal(300) + 2 * true).round(1)
    best = max(metrics.dice(true, logits >= value) for value in logits)
    assert metrics.dice(true, logits >= script.best_threshold(true, logits)) == best
