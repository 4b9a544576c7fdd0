"""Weights of a U-Net written in PyTorch: read by names or by shapes, refused with the layer that does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch_files import Tensor, write_torch

import tinynet as tn
from tinynet.errors import CheckpointError
from tinynet.tools.bench.examples import load_example

UNet = load_example("segmentation/unet_nuclei.py").UNet
STUDENT = {"down": "encoder.", "bottom": "bridge", "up": "decoder.up", "merge": "decoder.conv", "head": "out"}


def a_model(heads=3):
    """Random weights; random biases, because zeros would hide that two were exchanged."""
    tn.seed(1)
    model, rng = UNet(heads), np.random.default_rng(2)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data = rng.normal(0, 0.1, parameter.shape).astype(np.float32)
    return model.eval()


def renamed(state):
    """The names that a student might give: encoder.1.conv1.weight, bridge.conv2.bias, ..."""
    found = {}
    for name, array in state.items():
        for own, other in STUDENT.items():
            if name.startswith(own):
                name = other + name.removeprefix(own)
        found[name.replace(".0.", ".conv1.").replace(".3.", ".conv2.")] = array
    return found


def same_weights(net, model):
    actual = dict(net.model.named_parameters())
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(actual[name].numpy(), parameter.numpy(), name)


def save(path, state):
    if path.suffix == ".safetensors":
        tn.io.save_safetensors(path, state)
    else:
        arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
        strides = {name: [s // a.itemsize for s in a.strides] for name, a in arrays.items()}
        write_torch(path, {name: Tensor(a.ravel(), a.shape, strides[name]) for name, a in arrays.items()})


@pytest.mark.parametrize(
    ("file", "names", "heads"), [("w.pt", "same", 1), ("w.PTH", "other", 3), ("w.safetensors", "other", 1)]
)
def test_weights_written_in_pytorch_arrive(tmp_path, file, names, heads):
    model = a_model(heads)
    state = tn.nuclei.to_torch(model)
    assert state["down1.0.weight"].shape == (16, 3, 3, 3) and state["up4.weight"].shape == (256, 128, 2, 2)
    save(tmp_path / file, renamed(state) if names == "other" else state)
    net = tn.nuclei.load_net(tmp_path / file)
    assert net.heads == heads and net.scale is None and not net.model.training
    same_weights(net, model)


def test_names_decide_where_the_order_does_not_help(tmp_path):
    model = a_model()
    state = tn.nuclei.to_torch(model)
    save(tmp_path / "w.pt", dict(reversed(state.items())))
    same_weights(tn.nuclei.load_net(tmp_path / "w.pt"), model)


def test_safetensors_in_tinynets_own_layout(tmp_path):
    model = a_model()
    tn.io.save_safetensors(tmp_path / "w.safetensors", {n: p.numpy() for n, p in model.named_parameters()})
    same_weights(tn.nuclei.load_net(tmp_path / "w.safetensors"), model)


def without(state, *names):
    return {name: array for name, array in state.items() if name not in names}


DAMAGED = {
    "a layer less": (lambda s: without(renamed(s), "bridge.conv2.weight", "bridge.conv2.bias"), r"fits bottom\.3"),
    "no bias": (
        lambda s: without(s, "up2.bias"),
        r"fits up2 .*weight \(64, 32, 2, 2\), bias \(32,\).*found up2 \(weight",
    ),
    "another width": (
        lambda s: {**s, "down2.0.weight": np.zeros((32, 17, 3, 3), "f4")},
        r"fits down2\.0 .*\(32, 16, 3",
    ),
    "batch norm": (lambda s: {**s, "norm.weight": np.ones(16, "f4")}, r"layers that the U-Net lacks: norm \(weight"),
    "two heads": (lambda s: {**s, "head.weight": np.zeros((2, 16, 1, 1), "f4")}, r"to \[2\] channels"),
    "another net": (lambda s: {"fc.weight": np.zeros((10, 5), "f4")}, "holds no weights of this U-Net.*there is none"),
    "NaN": (lambda s: {**s, "head.bias": np.full(3, np.nan, "f4")}, r"NaN or infinite values in head\.bias"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_weights_that_do_not_fit(tmp_path, name):
    change, message = DAMAGED[name]
    save(tmp_path / "w.pt", change(tn.nuclei.to_torch(a_model())))
    with pytest.raises(CheckpointError, match=message) as caught:
        tn.nuclei.load_net(tmp_path / "w.pt")
    assert str(caught.value).startswith(str(tmp_path / "w.pt"))


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK\3\4 and nothing more")
    for name, message in (("w.pt", "damaged"), ("none.safetensors", "no file")):
        with pytest.raises(CheckpointError, match=message):
            tn.nuclei.load_net(tmp_path / name)


@pytest.mark.bench
def test_outputs_equal_those_of_pytorch(tmp_path):
    """PyTorch runs in a process of its own, because its thread pool and Numba's disturb each other."""
    pytest.importorskip("torch")
    x = np.random.default_rng(0).random((2, 32, 48, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    program = """
import sys, numpy as np, torch
from tinynet.tools.bench.peers.torch_unet import UNet, images_to_torch
torch.manual_seed(0)
model = UNet().eval()
torch.save(model.state_dict(), sys.argv[1] + "/w.pt")
with torch.no_grad():
    y = model(images_to_torch(np.load(sys.argv[1] + "/x.npy")))
np.save(sys.argv[1] + "/y.npy", y.permute(0, 2, 3, 1).numpy())
"""
    root = str(Path(tn.__file__).parents[1])
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=root)
    expected = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(tn.nuclei.load_net(tmp_path / "w.pt")(x), expected, atol=1e-5)
    assert expected.std() > 1e-3
