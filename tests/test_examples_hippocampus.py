"""The exact parts of examples/volumes/vnet_hippocampus.py and examples/volumes/cascade.py."""

from __future__ import annotations

import numpy as np
import pytest
from test_nn_gradients import check_net

import tinynet as tn
from tinynet.data import stack_volumes, synthetic_volumes
from tinynet.tools.bench.examples import load_example

vnet = load_example("volumes/vnet_hippocampus.py")
cascade = load_example("volumes/cascade.py")

NETS = {
    "V-Net": lambda: vnet.VNet(base=2),
    "3-D U-Net": lambda: vnet.UNet3d(base=2),
    "coarse": lambda: cascade.Net(2, (2, 3)),
    "fine": lambda: cascade.Net(4, (2, 3, 4)),
}


@pytest.mark.parametrize("name", NETS)
def test_gradients_of_the_nets(name):
    net, rng = NETS[name](), np.random.default_rng(0)
    labels = rng.integers(0, net.head.bias.size, (1, 4, 8, 4))

    class Loss(tn.nn.Module):
        def __init__(self):
            self.net = net

        def forward(self, x):
            return vnet.dice_loss(self.net(x), labels)

    check_net(Loss(), rng.standard_normal((1, 4, 8, 4, 1)), rng)


def test_a_residual_stage_of_zero_weights_is_its_shortcut():
    stage = vnet.ResidualStage(4, 4, 2)
    for parameter in stage.convolutions[-1].parameters():
        parameter.data[...] = 0
    x = tn.tensor(np.abs(np.random.default_rng(0).standard_normal((1, 4, 4, 4, 4))).astype(np.float32))
    np.testing.assert_array_equal(stage(x, shortcut=x).numpy(), x.numpy())


def test_dice_loss_by_hand():
    labels = np.zeros((1, 2, 2, 2), int)
    labels[0, 0, 0] = 1, 2
    certain = 60 * np.eye(3, dtype=np.float32)[labels]
    for loss in (vnet.dice_loss, cascade.dice_loss):
        assert loss(tn.tensor(certain), labels).item() == pytest.approx(0, abs=1e-6)
        thirds = tn.tensor(np.zeros((1, 2, 2, 2, 3), np.float32))  # each class has the probability 1/3 everywhere
        of_classes = [(2 * n / 3 + 1) / (8 / 9 + n + 1) for n in (6, 1, 1)]
        assert loss(thirds, labels).item() == pytest.approx(1 - np.mean(of_classes), rel=1e-5)


def test_crops_hold_the_organ_and_fit_their_labels():
    images, labels = stack_volumes(synthetic_volumes(np.random.default_rng(0), 2))
    crops = vnet.RandomCrops(images, labels)
    rng = np.random.default_rng(0)
    for index in (0, 1) * 5:
        image, label = crops.item(index, rng)
        assert image.shape == (40, 56, 40, 1) and label.shape == (40, 56, 40)
        assert (label > 0).sum() > 0.9 * (labels[index] > 0).sum()


def test_an_atlas_of_one_volume_finds_that_volume():
    (volume,) = synthetic_volumes(np.random.default_rng(0), 1)
    assert vnet.atlas_scores(vnet.label_atlas([volume]), [volume], 0.5).min() > 0.9


# ---------------------------------------------------------------------------------------- cascade
@pytest.fixture(scope="module")
def painter():
    return cascade.Painter(*stack_volumes(synthetic_volumes(np.random.default_rng(1), 3)))


def test_lesions_lie_in_the_organ_and_look_alikes_far_away(painter):
    rng = np.random.default_rng(0)
    for index in (0, 1, 2):
        image, labels = painter.paint(index, rng)
        organ = painter.labels[index] > 0
        changed = np.abs(image - painter.images[index])[..., 0] > 0.5
        assert (labels == cascade.LESION).any() and organ[labels == cascade.LESION].all()
        assert changed[labels == cascade.LESION].all()
        assert (changed & ~organ).any()
        assert np.array_equal(labels[labels != cascade.LESION], painter.labels[index][labels != cascade.LESION])
    again = painter.paint(0, np.random.default_rng(0))
    assert np.array_equal(again[0], painter.paint(0, np.random.default_rng(0))[0])


def fixed(answer):
    """A net that gives one answer, labels (D, H, W), of how ever many classes."""
    classes = max(2, answer.max() + 1)
    return lambda x: tn.tensor(np.eye(classes, dtype=np.float32)[answer][None])


def test_lesions_outside_the_organ_are_dropped(painter):
    image, labels = painter.paint(0, np.random.default_rng(0))
    organ = cascade.halved((labels > 0).astype(np.float32)[..., None])[..., 0] > 0.5

    def fine(x):
        answer = np.full(x.shape[1:4], cascade.LESION)
        return fixed(answer)(x)

    answer = cascade.cascade(fixed(organ.astype(int)), fine, image)
    assert (answer.labels == cascade.LESION).any() and answer.organ[answer.labels == cascade.LESION].all()
    assert all((s.stop - s.start) % 4 == 0 for s in answer.box)
    inside = np.zeros_like(answer.organ)
    inside[answer.box] = True
    assert inside[labels > 0].all() and answer.voxels == inside.sum() + organ.size


def test_without_an_organ_the_whole_volume_is_searched(painter):
    image, labels = painter.paint(0, np.random.default_rng(0))
    nothing = np.zeros(np.array(labels.shape) // 2, int)
    answer = cascade.cascade(fixed(nothing), fixed(np.full(labels.shape, cascade.LESION)), image)
    assert answer.voxels == labels.size + nothing.size and not answer.labels.any()


def test_lesions_are_counted_by_hand():
    true, found = np.zeros((2, 8, 8, 8), int)
    true[1:7, 1:7, 1:4], true[2, 2, 2], true[5, 5, 2] = 1, 3, 3
    found[...] = true
    found[5, 5, 2] = 1  # missed
    found[4, 2, 2] = 3  # a false alarm in the organ
    found[0, 7, 7] = 3  # and two outside
    found[7, 0, 7] = 3
    scores = cascade.scores([cascade.Answer(found, 128)], true[None])
    assert (scores["lesions_found"], scores["false_alarms"], scores["false_alarms_outside"]) == (0.5, 3, 2)
    assert scores["voxels"] == 0.25


@pytest.mark.parametrize("script", [vnet, cascade], ids=["vnet", "cascade"])
def test_thinning_that_does_not_fit_is_refused(script):
    with pytest.raises(Exception, match="--thinning is 3; it must be 1, 2 or 4"):
        script.main(["--quick", "--thinning", "3"])
