"""tinynet: the example's U-Net, through the ordinary API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib.metadata import version

import tinynet as tn
from tinynet.nn.optim import Adam

from ..examples import load_example
from ..problem import LEARNING_RATE, SEED, SMOOTH, images_and_masks
from . import Contestant


def contestant(
    mode: str,
    batch: int,
    size: int,
    threads: int,
    backend: str = "cpu",
    implementation: str | None = None,
    precision: str = "float32",
) -> Contestant:
    """The U-Net by the default kernels, or with an implementation of conv2d by name; Numba knows the threads."""

    with tn.use_backend(backend, precision):
        model = new_net().to(tn.device())
        step = train_step(model, batch, size) if mode == "train" else infer_step(model, batch, size)

    def step_as_asked() -> float:
        chosen = tn.use_kernels("conv2d", implementation) if implementation else contextlib.nullcontext()
        with tn.use_backend(backend, precision), chosen:
            return step()

    parameters = sum(p.size for p in model.parameters())
    if backend == "cuda":
        from tinynet.backends.cuda import gpu

        return Contestant(step_as_asked, parameters, {"cupy": gpu.version()}, gpu.timed, gpu.peak_mb)
    numba = ("numba",) if backend == "cpu" else ()
    return Contestant(step_as_asked, parameters, {name: version(name) for name in ("numpy", *numba)})


def new_net() -> tn.nn.Module:
    """The net with the initial weights that all contestants start from."""
    tn.seed(SEED)
    return load_example("segmentation/unet_nuclei.py").UNet()


def train_step(model: tn.nn.Module, batch: int, size: int) -> Callable[[], float]:
    """A function that does one step of training (forward with dropout, backward, Adam) and returns the loss."""
    optimizer = Adam(model.parameters(), LEARNING_RATE)
    images, masks = images_and_masks(batch, size)

    def step() -> float:
        optimizer.zero_grad()
        loss = tn.dice_loss(model(tn.tensor(images).to(tn.device())), masks, smooth=SMOOTH)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def infer_step(model: tn.nn.Module, batch: int, size: int) -> Callable[[], float]:
    """A function that predicts the masks of one batch and returns their mean."""
    model.eval()
    images, _ = images_and_masks(batch, size)

    def step() -> float:
        with tn.no_grad():
            return float(model(tn.tensor(images).to(tn.device())).numpy().mean())

    return step
