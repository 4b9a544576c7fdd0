"""The U-Net computed by hand, for tests of the page that shows it from inside."""

import json
import re

import numpy as np

import tinynet as tn
from tinynet.tools.bench.examples import load_example
from tinynet.tools.page.contents import KERNELS, Architecture, unpacked


def data_of(html):
    """The data in the text of a page."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(found)


def new_net(heads=1):
    """An untrained U-Net, always the same."""
    tn.seed(0)
    return load_example("segmentation/unet_nuclei.py").UNet(heads).eval()


def by_hand(model, image):
    """{id: (H, W, C)} of some maps, computed step by step, without hooks."""
    with tn.no_grad():
        d1 = model.down1(tn.tensor(image[None]))
        d2 = model.down2(model.pool(d1))
        d3 = model.down3(model.pool(d2))
        d4 = model.down4(model.pool(d3))
        bottom = model.bottom(model.pool(d4))
        up4 = model.up4(bottom)
        merge4 = model.merge4([up4, d4])
        found = {"conv2": d1, "conv4": d2, "conv6": d3, "pool5": model.pool(d4), "conv8": d4, "conv10": bottom}
        found |= {"conv11": up4, "concat4": tn.concat([up4, d4], axis=3), "conv13": merge4}
        found["sigmoid"] = model(tn.tensor(image[None]))
    return {name: tensor.numpy()[0] for name, tensor in found.items()}


def check_kernels(data, model):
    """The kernels of a page are those of the model: all of levels 1 to 3, `KERNELS` channels of the others."""
    state = model.state_dict()
    for entry in (entry for entry in Architecture(len(data["outputs"])).maps if "module" in entry):
        kernels, weight = data["kernels"][entry["id"]], state[f"{entry['module']}.weight"]
        channels = kernels["channels"]
        assert len(channels) == min(entry["channels"], KERNELS if entry["level"] >= 4 else 999), entry["id"]
        part = weight[:, :, channels] if entry["op"] == "up" else weight[..., channels]
        np.testing.assert_array_equal(unpacked(kernels["weight"]), part.ravel(), err_msg=entry["id"])
        np.testing.assert_array_equal(unpacked(kernels["bias"]), state[f"{entry['module']}.bias"][channels])
