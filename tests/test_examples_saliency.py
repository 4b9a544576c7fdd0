"""The exact parts of examples/interpretability/saliency.py."""

from dataclasses import replace

import numpy as np
import pytest
from test_nn_gradients import check_net

import tinynet as tn
from tinynet import nn
from tinynet.data import DataError, synthetic_nuclei
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def script():
    return load_example("interpretability/saliency.py")


def test_the_swapped_kernels_run_inside_of_nets(script):
    """relu: x (2,) -> w x -> relu -> v: gradients with a negative sign end at the activation."""
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    w, v = np.array([[1, 2, -1], [1, -1, 3]], np.float32), np.array([[2], [4], [-5]], np.float32)
    net.load_state_dict({"0.weight": w, "2.weight": v})
    x = np.array([[1, 3]], np.float32)  # the hidden values are 4, -1, 8: the second is off, the third has a -5
    plain = script.score_gradient(net, x, np.array([0]))
    with tn.use_kernels("relu", backward=script.guided_relu):
        guided = script.score_gradient(net, x, np.array([0]))
    np.testing.assert_array_equal(plain, [[2 * 1 + 5 * 1, 2 * 1 - 5 * 3]])
    np.testing.assert_array_equal(guided, [[2, 2]])
    np.testing.assert_array_equal(script.score_gradient(net, x, np.array([0])), plain)
    gy, y = np.array([2.0, 2, 2, -2, -2]), np.array([0.0, 3, 6, 3, 6])
    assert script.guided_relu6(gy, y).tolist() == [0, 2, 0, 0, 0]


def test_efficientnet_runs_the_guided_kernel_of_relu6(script):
    tn.seed(0)
    net = nn.Sequential(script.efficientnet.ConvNorm(1, 4, 3), nn.GlobalAvgPool2d(), nn.Linear(4, 2)).eval()
    images, classes = np.random.default_rng(0).random((2, 8, 8, 1), dtype=np.float32), np.array([0, 1])
    maps = {name: method(net, images, classes, 1) for name, method in script.METHODS.items()}
    assert all(m.shape == (2, 8, 8) and (m >= 0).all() for m in maps.values())
    assert np.abs(maps["guided"] - maps["gradient"]).max() > 1e-3


def test_grad_cam_before_the_mean_of_the_pixels_is_cam(script):
    """Zhou et al. 2016: the last layer's weights of the class are the weights of the channels."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool2d(), nn.Linear(3, 2))
    images = np.random.default_rng(0).random((2, 5, 6, 1), dtype=np.float32)
    maps = script.grad_cam(net, images, np.array([0, 1]), 2)
    activations, weights = nn.predict(net[:2], images), net[3].weight.numpy().T
    expected = np.maximum(np.einsum("nhwc,nc->nhw", activations, weights), 0) / 30
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-7)


def test_share_and_similarity(script):
    maps = np.zeros((3, 2, 2))
    maps[0], maps[1, 0, 0] = [[1, 2], [3, 4]], 5
    inside = np.zeros((3, 2, 2), bool)
    inside[:, 1] = True
    assert script.share_inside(maps, inside) == pytest.approx((0.7 + 0) / 2), "a map of zeros is left out"
    assert script.similarity(maps[:1], np.exp(maps[:1])) == pytest.approx(1)
    assert script.similarity(maps[:1], -maps[:1]) == pytest.approx(-1)
    assert script.similarity(maps[[0, 2]], maps[[0, 2]]) == pytest.approx(0.5), "a map of zeros counts as 0"


def test_the_cascade_begins_at_the_last_layer(script):
    net, random = script.nuclei_net(2), script.nuclei_net(2)
    images = np.zeros((1, 8, 8, 1), np.float32)
    question = script.Question(net, images, np.array([1]), images[..., 0] > 0, 10, (11, 8, 0), random)
    first, second, last = question.cascade()
    assert list(first) == [*net[:11], random[11]] and list(second) == [*net[:8], *random[8:]]
    assert list(last) == list(random)


def test_half_of_the_patches_have_no_nucleus(script):
    sample = synthetic_nuclei(np.random.default_rng(3), size=256)
    empty = replace(sample, labels=np.zeros_like(sample.labels))
    images, nuclei = script.patches([sample, empty], 20, False, np.random.default_rng(0))
    assert images.shape == (*nuclei.shape, 1) and images.dtype == np.float32
    covered = nuclei.mean(axis=(1, 2))
    half = len(covered) // 2
    assert half and (covered[:half] == 0).all() and (covered[half:] > 0.03).all() and covered.max() < 0.3
    assert (images[nuclei].mean() - images[~nuclei].mean()) > 0.3, "image and mask are of the same place"
    with pytest.raises(DataError, match="none of 1 images has a patch with nuclei and one without: raise --images"):
        script.patches([empty], 20, False, np.random.default_rng(0))


def test_a_net_that_looks_for_bright_spots_finds_none_after_they_have_been_painted_over(script):
    images, inside = np.full((2, 16, 16, 1), 0.1, np.float32), np.zeros((2, 16, 16), bool)
    inside[:, 4:8, 4:8] = True
    images[0][inside[0]], images[1, 0, 0] = 1, 1  # the second bright spot is no nucleus

    def brightest(x):  # scores (N, 2): a nucleus if a pixel is brighter than 0.5
        return tn.concat([tn.tensor(np.full((2, 1), 0.5, np.float32)), x.max(axis=(1, 2))], axis=1)

    question = script.Question(brightest, images, np.array([1, 1]), inside, 0, (), brightest)
    assert script.found_without_nuclei(question) == 0.5


def test_the_joint_is_where_the_gap_between_the_bones_is(script):
    images = np.full((3, 112, 112, 1), 200, np.uint8)
    images[:, 70], images[:, 5] = 50, 0  # the darkest row of all is too far from the middle
    assert script.joint_rows(images) == slice(56, 84)


def test_gradients_of_the_net_for_nuclei(script):
    rng = np.random.default_rng(1)
    net = script.nuclei_net(2)
    check_net(net, rng.standard_normal((1, 8, 8, 1)), rng)


def test_a_swapped_kernel_runs_where_layers_are_fused_otherwise(script):
    """Sequential runs convolution, ELU and dropout as one kernel, unless a kernel of one of them is swapped."""
    tn.seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ELU(), nn.Flatten(), nn.Linear(32, 1)).eval()
    x, calls = np.random.default_rng(0).standard_normal((1, 4, 4, 1)).astype(np.float32), []

    def guided_elu(gy, y, alpha):
        calls.append(y)
        return gy * np.where(y > 0, 1, y + alpha) * (gy > 0)

    plain = script.score_gradient(net, x, np.array([0]))
    with tn.use_kernels("elu", backward=guided_elu):
        guided = script.score_gradient(net, x, np.array([0]))
    assert len(calls) == 1 and np.abs(guided - plain).max() > 1e-3
