"""The exact parts of examples/segmentation/fcn_vessels.py; the U-Net has test_unet.py."""

import numpy as np
import pytest
from test_nn_gradients import check_net

import tinynet as tn
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def script():
    return load_example("segmentation/fcn_vessels.py")


@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (13, 7)])
def test_the_patch_net_is_the_same_at_every_pixel_as_a_fully_convolutional_net(script, shape):
    tn.seed(0)
    net = script.PatchNet()
    image = np.random.default_rng(0).standard_normal((*shape, 3)).astype(np.float32)
    by_patches, at_once = script.patch_by_patch(net, image), script.all_at_once(net, image)
    assert at_once.shape == shape
    np.testing.assert_allclose(at_once, by_patches, atol=1e-5)


@pytest.mark.parametrize("name", ["patches", "skips"])
def test_gradients_of_both_nets(script, name):
    rng = np.random.default_rng(1)
    net, size = (script.PatchNet(), 25) if name == "patches" else (script.SkipNet((2, 2, 2)), 4)
    check_net(net, rng.standard_normal((1, size, size, 3)), rng)


def test_the_light_is_removed(script):
    retina = tn.data.synthetic_retina(np.random.default_rng(0), 96)
    contrast = script.prepare(retina)
    assert contrast.dtype == np.float32 and not contrast[~retina.field].any()
    assert contrast[retina.field].std() == pytest.approx(1, rel=1e-3)
    assert contrast[retina.field & retina.vessels].mean() < -0.5 < contrast[retina.field & ~retina.vessels].mean()


def test_patches_have_their_pixel_in_the_center(script):
    retina = tn.data.synthetic_retina(np.random.default_rng(0), 64)
    marked = np.repeat(retina.vessels[..., None], 3, 2).astype(np.float32)  # the image shows the truth itself
    patches = script.Patches([marked], [retina], 20)
    for index in range(20):
        patch, kind = patches.item(index, np.random.default_rng(index))
        assert patch.shape == (25, 25, 3) and (patch[12, 12] == kind).all() and kind == index % 2
    crops = script.Crops([marked], [retina], 32, 4)
    crop, vessels = crops.item(0, np.random.default_rng(0))
    np.testing.assert_array_equal(crop[..., :1] > 0, vessels > 0)
