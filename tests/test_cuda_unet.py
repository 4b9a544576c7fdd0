"""The whole U-Net on the CUDA kernels: in the emulator everywhere, on a GPU where there is one."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from op_folders import on
from processes import python

import tinynet as tn
from tinynet.data import synthetic_nuclei, targets
from tinynet.nn.optim import AdamW, clip_grad_norm
from tinynet.tools.bench.examples import new_unet

STEPS = 2
SIZE = 32  # of the images: the emulator is slow
TIERS = [on("cuda-sim", "cuda-sim"), on("cuda", "cuda")]


def a_batch() -> tuple[np.ndarray, np.ndarray]:
    """Two images of 32 x 32 with nuclei, and their masks."""
    samples = [synthetic_nuclei(np.random.default_rng(i), "fluorescence") for i in range(2)]
    images = np.stack([tn.data.normalize(s.image)[:SIZE, :SIZE] for s in samples])
    masks = np.stack([targets(s.labels[:SIZE, :SIZE], 1) for s in samples])
    return images.astype(np.float32), masks.astype(np.float32)


def losses(backend: str, precision: str = "float32") -> tuple[list[float], dict[str, np.ndarray]]:
    """The loss before each of some steps of training with dropout, and the weights after them."""
    images, masks = a_batch()
    with tn.use_backend(backend, precision):
        model = new_unet().to(tn.device())
        optimizer = AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
        values = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = tn.dice_loss(model(tn.tensor(images).to(tn.device())), masks)
            loss.backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            values.append(loss.item())
    return values, {name: p.numpy().copy() for name, p in model.named_parameters()}


first_run = functools.cache(losses)  # several tests look at the same one


@pytest.fixture(scope="module")
def on_the_cpu():
    return losses("cpu")


@pytest.mark.parametrize("backend", TIERS)
def test_the_losses_of_training_are_those_of_the_cpu(backend, on_the_cpu):
    values, weights = first_run(backend)
    np.testing.assert_allclose(values, on_the_cpu[0], rtol=1e-4)
    assert len(set(values)) == STEPS, "the weights must have changed"
    for name, weight in weights.items():
        # Adam's first steps are of the size lr whatever the gradient's, so a gradient near zero may go either way.
        assert np.mean(np.abs(weight - on_the_cpu[1][name])) < 1e-4, name


@pytest.mark.slow
@pytest.mark.parametrize("backend", TIERS)
def test_tf32_trains_with_three_digits(backend, on_the_cpu):
    values, _ = losses(backend, "tf32")
    np.testing.assert_allclose(values, on_the_cpu[0], rtol=5e-3)
    assert values != on_the_cpu[0]


@pytest.mark.parametrize("backend", TIERS)
def test_training_twice_gives_the_same_bits(backend):
    first, second = first_run(backend), losses(backend)
    assert first[0] == second[0]
    for name, weight in first[1].items():
        np.testing.assert_array_equal(weight, second[1][name], err_msg=name)


@pytest.mark.parametrize("backend", TIERS)
def test_a_checkpoint_moves_between_the_tiers(backend, tmp_path):
    """Written by one, read by the other, in both directions; the prediction is the same."""
    images, _ = a_batch()
    model = new_unet()
    with tn.no_grad():
        want = model.eval()(tn.tensor(images)).numpy()
    tn.io.save_weights(tmp_path / "cpu.npz", model, {})
    with tn.use_backend(backend), tn.no_grad():
        other = new_unet().to(tn.device()).eval()
        tn.io.load_weights(tmp_path / "cpu.npz", other)
        assert other.head.weight.device == tn.device()
        got = other(tn.tensor(images).to(tn.device())).numpy()
        np.testing.assert_allclose(got, want, atol=1e-5)
        tn.io.save_weights(tmp_path / "other.npz", other, {})
    tn.io.load_weights(tmp_path / "other.npz", model)
    with tn.no_grad():
        np.testing.assert_array_equal(model(tn.tensor(images)).numpy(), want)


WITHOUT_NUMBA = """
import json, sys
sys.modules["numba"] = None  # importing it fails
import numpy as np, tinynet as tn
from tinynet import nn
from tinynet.optim import SGD, Adam
tn.seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ELU(), nn.Dropout(0.1), nn.MaxPool2d(2),
                    nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(4, 1, 1))
x = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
t = (x[..., :1] > 0.5).astype(np.float32)
with tn.use_backend("cuda-sim"):
    values = []
    for optimizer in (Adam(net.parameters(), 1e-2), SGD(net.parameters(), 1e-2, momentum=0.9)):
        for _ in range(2):
            optimizer.zero_grad()
            logits = net(tn.tensor(x))
            loss = tn.bce_with_logits(logits, t) + tn.dice_loss(tn.sigmoid(logits), t)
            loss.backward()
            optimizer.step()
            values.append(loss.item())
print(json.dumps(values))
"""


@pytest.mark.parametrize("tier", TIERS[:1])
def test_a_machine_without_numba_trains(tier):
    values = json.loads(python(WITHOUT_NUMBA).splitlines()[-1])
    assert values == sorted(values, reverse=True) and values[-1] < values[0]
