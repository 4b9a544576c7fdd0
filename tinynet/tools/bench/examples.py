"""The scripts of examples/ as modules, and one step of each of their nets that the benchmark measures.

The net that is measured is the net that students read. This file imports only the public names of tinynet, so that
`bench against` can run it with the tinynet of another checkout.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import tinynet as tn

SEED = 0
LEARNING_RATE = 1e-3  # of Adam; its other settings are the defaults of every framework
SMOOTH = 1.0  # added to numerator and denominator of the soft Dice loss

# In a checkout the examples lie beside `tinynet/`; setup.py copies them into an installed package.
PACKAGE = Path(tn.__file__).resolve().parent
FOLDERS = (PACKAGE.parent / "examples", PACKAGE / "examples")

# The nets of the lectures and the shape of their batches (autoencoder: rows of pixels; lstm: 5 s of two leads).
BATCHES = {
    "lenet": (100, 28, 28, 1),
    "alexnet": (32, 112, 112, 1),
    "autoencoder": (128, 784),
    "lstm": (32, 600, 2),
}

Step = Callable[[], float]  # does one step and returns its loss, or the mean of its predictions
Loss = Callable[[Any, Any], tn.Tensor]


def load_example(path: str) -> ModuleType:
    """The module of examples/<path>, e.g. 'segmentation/unet_nuclei.py', imported once.

    Raises FileNotFoundError if the script is in neither of the two folders.
    """
    name = "_".join(("example", *Path(path).with_suffix("").parts))
    if name not in sys.modules:
        file = next((folder / path for folder in FOLDERS if (folder / path).is_file()), None)
        if file is None:
            raise FileNotFoundError(f"examples/{path} is neither in {FOLDERS[0]} nor in {FOLDERS[1]}")
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their own module up while it is being imported
        spec.loader.exec_module(module)
    return sys.modules[name]


def check_counts(**counts: int) -> None:
    """Raise ValueError, which names the flag, if one of these flags is less than 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name} is {count}; at least 1 is needed")


def check_sizes(size: int, **counts: int) -> None:
    """Raise ValueError, which names the flag, for images that the U-Net cannot take, or counts less than 1."""
    check_counts(**counts)
    if size < 16 or size % 16:
        raise ValueError(f"--size is {size}; the U-Net halves it four times: a multiple of 16 is needed")


# ---------------------------------------------------------------------------------------- the U-Net
def images_and_masks(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) of noise in [0, 2), and masks (N, H, W, 1) of the squares where it is brighter; both float32.

    The net can learn these. From noise alone it learns to answer 1 everywhere; then its gradients become subnormal, and
    a processor of Intel takes four times as long for a step if a framework does not count them as zero.
    """
    rng = np.random.default_rng(SEED)
    squares = rng.random((batch, size // 16, size // 16, 1)) < 0.2
    masks = squares.repeat(16, axis=1).repeat(16, axis=2).astype(np.float32)
    return rng.random((batch, size, size, 3), dtype=np.float32) + masks, masks


def new_unet() -> tn.nn.Module:
    """The U-Net with the initial weights that every framework starts from."""
    tn.seed(SEED)
    return load_example("segmentation/unet_nuclei.py").UNet()


def train_step(model: tn.nn.Module, batch: int, size: int) -> Step:
    """A function that does one step of training (forward with dropout, backward, Adam) and returns the loss."""
    optimizer = tn.optim.Adam(model.parameters(), LEARNING_RATE)
    images, masks = images_and_masks(batch, size)

    def step() -> float:
        optimizer.zero_grad()
        loss = tn.dice_loss(model(tn.tensor(images).to(tn.device())), masks, smooth=SMOOTH)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def infer_step(model: tn.nn.Module, batch: int, size: int) -> Step:
    """A function that predicts the masks of one batch and returns their mean."""
    model.eval()
    images, _ = images_and_masks(batch, size)

    def step() -> float:
        with tn.no_grad():
            return float(model(tn.tensor(images).to(tn.device())).numpy().mean())

    return step


# ---------------------------------------------------------------------------------------- the nets of the lectures
def batch_of(net: str) -> tuple[np.ndarray, np.ndarray]:
    """(noise as the net's input, the targets)."""
    rng = np.random.default_rng(SEED)
    x = rng.random(BATCHES[net], dtype=np.float32)
    targets = {
        "lenet": rng.integers(0, 10, len(x)),  # a class for each image
        "alexnet": rng.integers(0, 2, (len(x), 1)).astype(np.float32),  # yes or no
        "autoencoder": x,
        "lstm": rng.random((*x.shape[:2], 24), dtype=np.float32),  # the next 24 samples, at each sample
    }
    return x, targets[net]


def new_net(net: str) -> tuple[tn.nn.Module, Loss]:
    """(the net with the initial weights that both frameworks start from, its loss on a batch and its targets)."""
    tn.seed(SEED)
    if net == "lenet":
        model = load_example("convnets/lenet_mnist.py").lenet()
        return model, lambda x, target: tn.softmax_cross_entropy(model(x), target)
    if net == "lstm":
        script = load_example("sequences/lstm_ecg.py")
        listener = script.Listener(2, 64)
        return listener, lambda x, target: script.loss_of(listener, x, target)
    if net == "alexnet":
        model = load_example("convnets/alexnet.py").small_alexnet()
    else:
        model = load_example("unsupervised/autoencoder.py").Autoencoder(784, (256, 64), 30)
    return model, lambda x, target: tn.bce_with_logits(model(x), target)


def net_step(model: tn.nn.Module, loss_of: Loss, net: str) -> Step:
    """A function that does one step of training (AdamW) on the net's batch and returns the loss."""
    optimizer = tn.optim.AdamW(model.parameters(), LEARNING_RATE)
    x, target = batch_of(net)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(tn.tensor(x), tn.tensor(target) if target.dtype.kind == "f" else target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---------------------------------------------------------------------------------------- cases
def unet_sizes(case: str) -> tuple[str, int, int]:
    """("train" or "infer", images, their size) of a case such as "train-16x256". Raises ValueError for another one."""
    parts = re.fullmatch(r"(train|infer)-(\d+)x(\d+)", case)
    if not parts:
        raise ValueError(f"there is no case {case}; the cases are {', '.join(BATCHES)}, train-16x256, infer-1x512, ...")
    return parts[1], int(parts[2]), int(parts[3])


def case_net(case: str) -> tuple[tn.nn.Module, Step]:
    """(the net, its step) of a case: a net of the lectures, or a step of the U-Net such as "train-16x256"."""
    if case in BATCHES:
        model, loss_of = new_net(case)
        return model, net_step(model, loss_of, case)
    mode, batch, size = unet_sizes(case)
    model = new_unet().to(tn.device())
    return model, {"train": train_step, "infer": infer_step}[mode](model, batch, size)


def start(case: str) -> tuple[dict[str, Any], Callable[[int], dict[str, Any]]]:
    """What a child of `bench against` does: asked for a number of steps, it answers with the milliseconds of one."""
    _, step = case_net(case)

    def respond(count: int) -> dict[str, Any]:
        begin = time.perf_counter()
        for _ in range(count):
            value = step()
        return {"ms": 1000 * (time.perf_counter() - begin) / count, "value": value}

    return {}, respond
