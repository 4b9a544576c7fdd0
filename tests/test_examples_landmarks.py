"""The exact parts of examples/detection/landmarks.py: positions, missing landmarks, gradients of the nets."""

from __future__ import annotations

import numpy as np
import pytest
from test_nn_gradients import as_function_of_a_vector

import tinynet as tn
from tinynet import nn
from tinynet.data import Volume
from tinynet.errors import UsageError
from tinynet.tools.bench.examples import load_example

script = load_example("detection/landmarks.py")
MIDDLE = (9.0, 12.0, 8.0)  # an anterior part of one voxel in a volume of 20 x 24 x 18


def volume(spacing=(1.0, 1.0, 1.0)):
    """A volume with an anterior part of one bright voxel, and without a posterior part."""
    labels = np.zeros((20, 24, 18), np.uint8)
    labels[9, 12, 8] = 1
    return Volume("one part", labels.astype(np.float32), labels, spacing)


def test_centers_of_the_parts():
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:5, 1:3, 4] = 2
    np.testing.assert_array_equal(script.part_centers(labels), [[np.nan] * 3, [3, 1.5, 4]])
    labels[7, 8, 9] = 1
    np.testing.assert_array_equal(script.part_centers(labels)[0], [7, 8, 9])


def test_a_crop_holds_the_landmark_where_it_says_or_says_that_it_is_missing():
    dataset = script.Dataset([volume()])
    crops = dataset.crops(np.zeros(60, int), 8, 20, np.random.default_rng(0))
    assert crops.images.shape == (60, 8, 8, 8, 1) and crops.images.dtype == np.float32
    there = np.isfinite(crops.truth[:, 0, 0])
    assert 0 < there.sum() < 60 and np.isnan(crops.truth[:, 1]).all()
    bright = crops.images.max(axis=(1, 2, 3, 4)) > 1
    np.testing.assert_array_equal(bright, there)
    places = script.argmax_positions(crops.images[there])
    np.testing.assert_array_equal(places[:, 0], crops.truth[there, 0])


def test_a_missing_landmark_has_an_empty_heatmap_and_no_share_of_the_loss():
    truth = np.array([[[2.0, 3.0, 4.0], [np.nan] * 3], [[np.nan] * 3, [np.nan] * 3]])
    targets = script.heatmap_targets(truth, 8, sigma=2.0)
    assert targets.dtype == np.float32 and targets[0, 2, 3, 4, 0] == 1
    assert np.count_nonzero(targets[0, ..., 1]) == np.count_nonzero(targets[1]) == 0
    positions = tn.tensor(np.full((2, 2, 3), 1.0, np.float32), requires_grad=True)
    loss = script.coordinate_loss(positions, truth, size=8)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 4 + 9) / 3 / 16)
    assert np.count_nonzero(positions.grad[0, 0]) == 3 == np.count_nonzero(positions.grad.numpy())
    nothing = script.coordinate_loss(positions, np.full((2, 2, 3), np.nan), size=8)
    assert nothing.item() == 0, "a batch without landmarks has a loss of 0"
    maps = tn.tensor(targets)
    assert script.heatmap_loss(maps, targets).item() == 0
    assert script.heatmap_loss(maps * 0, targets).item() == pytest.approx(1)


def test_errors_leave_out_missing_landmarks_and_use_the_spacing():
    crops = script.Dataset([volume(spacing=(2.0, 1.0, 0.5))] * 2).crops(np.arange(2), 16, 0, np.random.default_rng(0))
    crops.truth[0, 1] = (5, 5, 5)  # the posterior part is in one of the crops only
    voxels, mm = crops.errors(np.nan_to_num(crops.truth) + np.array([3, 4, 0]))
    np.testing.assert_allclose(voxels, [[5, 5], [5, np.nan]])
    np.testing.assert_allclose(mm, np.hypot(6, 4) * voxels / 5)


def test_the_peak_tells_whether_a_landmark_is_there():
    truth = np.array([[[1.0, 2.0, 3.0], [np.nan] * 3]])
    assert script.missing(np.concatenate([truth, truth[:, ::-1]])) == "anterior in 1, posterior in 1 of 2 test crops"
    with pytest.raises(ValueError, match="posterior landmarks are in none of 1 test crops; larger crops"):
        script.missing(truth)
    maps = np.zeros((1, 4, 4, 4, 2))
    maps[0, 1, 2, 3] = (0.9, 0.1)
    assert script.presence(maps, truth) == {"presence_auc": 1, "presence_accuracy": 1}
    assert script.presence(maps[..., ::-1], truth)["presence_auc"] == 0
    assert script.presence(maps, np.nan_to_num(truth)) == {}, "nothing is missing"


def test_soft_argmax_finds_a_sharp_peak_and_the_middle_of_a_flat_map():
    maps = np.zeros((1, 4, 6, 8, 2), np.float32)
    maps[0, 3, 1, 6, 0] = 50
    np.testing.assert_allclose(script.soft_argmax(tn.tensor(maps)).numpy()[0], [[3, 1, 6], [1.5, 2.5, 3.5]], atol=1e-5)


class Loss(nn.Module):
    """The loss of a net as a function of the crop; one of the two landmarks is missing."""

    def __init__(self, net):
        self.net = net

    def forward(self, x):
        return self.net.loss(x, np.array([[[2.0, 3.0, 4.5], [np.nan] * 3]]))


@pytest.mark.parametrize("name", script.METHODS)
def test_gradients_of_a_net_and_its_loss(name):
    loss = Loss(script.METHODS[name](script.Config(channels=1, crop=16)))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 16, 16, 16, 1))
    values = rng.normal(size=sum(p.size for p in loss.parameters())) / 2
    tn.gradcheck(as_function_of_a_vector(loss), [x, values], mode="directions")


def test_gradients_of_soft_argmax():
    tn.gradcheck(script.soft_argmax, [np.random.default_rng(0).standard_normal((2, 2, 3, 2, 2))])


def test_impossible_sizes_are_refused():
    with pytest.raises(UsageError, match="--crop is 20; a multiple of 8"):
        script.main(["--quick", "--crop", "20"])
    with pytest.raises(UsageError, match=r"--shift is 9; crops of 32 voxels can shift by 0 \.\. 8"):
        script.main(["--shift", "9"])
