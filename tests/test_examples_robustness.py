"""The exact parts of examples/evaluation/robustness.py."""

import numpy as np
import pytest
from test_nn_gradients import check_net

from tinynet.tools.bench.examples import load_example


@pytest.fixture
def script():
    return load_example("evaluation/robustness.py")


def test_distortions(script):
    rng = np.random.default_rng(0)
    image = rng.random((20, 20, 1), dtype=np.float32)
    for name, distortion in script.DISTORTIONS.items():
        assert distortion.neutral in distortion.strengths
        images = np.stack([image, image])
        np.testing.assert_array_equal(script.distorted(images, distortion, distortion.neutral, seed=0), images)
        changed = script.distorted(images, distortion, distortion.strengths[-1], seed=0)
        assert changed.shape == images.shape and changed.dtype == np.float32, name
        assert np.abs(changed - images).max() > 0.1 and (changed >= 0).all() and (changed <= 1).all()
    np.testing.assert_allclose(script.rotated(image, 90, rng), np.rot90(image), atol=1e-5)
    dot = np.zeros((21, 21, 1), np.float32)
    dot[10, 13] = 1
    assert np.unravel_index(script.zoomed(dot, 2, rng).argmax(), (21, 21)) == (10, 16)
    assert script.brightened(dot, -0.3, rng).max() == np.float32(0.7)
    wide = script.blurred(dot, 0.1, rng)
    deviation = np.sqrt((wide[:, :, 0].sum(axis=0) * (np.arange(21) - 13) ** 2).sum())
    assert deviation == pytest.approx(2.1, abs=0.1), "a tenth of the height"
    assert script.noisy(np.full((200, 200, 1), 0.5, np.float32), 0.1, rng).std() == pytest.approx(0.1, abs=0.002)


def test_an_augmentation_contains_what_the_table_says(script):
    image = np.random.default_rng(0).random((16, 16, 1), dtype=np.float32)
    for net in script.NETS:
        changed = script.augmentation(net, 16)(image, None, np.random.default_rng(3))[0]
        assert np.array_equal(changed, image) == (net == "none")
        assert script.trained_for(net).tolist() == [
            net == "all" or name == net or (net, name) == ("any angle", "rotation") for name in script.DISTORTIONS
        ]


def test_gains_leave_out_the_undistorted_images(script):
    nets = len(script.NETS)
    scores = {name: np.full((nets, len(d.strengths)), 0.5) for name, d in script.DISTORTIONS.items()}
    for name, distortion in script.DISTORTIONS.items():
        scores[name][:, distortion.strengths.index(distortion.neutral)] = np.arange(nets)
    scores["blur"][script.NETS.index("noise")] += 0.2
    table = script.gains(scores)
    assert table.shape == (nets, len(script.DISTORTIONS))
    assert np.argwhere(np.abs(table) > 1e-9).tolist() == [[script.NETS.index("noise"), 2]]
    summary = script.summary("x", scores)
    assert summary["x_gain_seen"] == pytest.approx(0) and summary["x_gain_unseen"] == pytest.approx(0.2 / 24)


def test_balanced_accuracy_weighs_classes_alike(script):
    right = np.array([[True, True, True, False], [True, False, False, True]])
    np.testing.assert_allclose(script.balanced_accuracy(right, np.array([0, 0, 0, 1])), [1 / 2, 2 / 3])


def test_gradients_of_the_net_for_chests(script):
    rng = np.random.default_rng(1)
    net = script.chest_net(2)
    check_net(net, rng.standard_normal((3, 16, 16, 1)), rng)
