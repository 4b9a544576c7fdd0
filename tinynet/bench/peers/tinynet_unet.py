"""The example's U-Net, through the ordinary API."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tinynet as tn
from tinynet.optim import Adam

from ..examples import load_example
from ..problem import LEARNING_RATE, SEED, SMOOTH, images_and_masks


def new_net() -> tn.nn.Module:
    """The net with the same initial weights each time."""
    tn.seed(SEED)
    return load_example("segmentation/unet_nuclei.py").UNet()


def train_step(batch: int, size: int) -> Callable[[], float]:
    """A function that does one step of training (forward with dropout, backward, Adam) and returns the loss."""
    model = new_net()
    optimizer = Adam(model.parameters(), LEARNING_RATE)
    images, masks = images_and_masks(batch, size)

    def step() -> float:
        optimizer.zero_grad()
        loss = tn.dice_loss(model(tn.tensor(images)), masks, smooth=SMOOTH)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def infer_step(batch: int, size: int) -> Callable[[], float]:
    """A function that predicts the masks of one batch and returns their mean."""
    model = new_net().eval()
    images, _ = images_and_masks(batch, size)

    def step() -> float:
        with tn.no_grad():
            return float(np.mean(model(tn.tensor(images)).numpy()))

    return step


def parameter_count() -> int:
    """How many numbers the net learns."""
    return sum(p.size for p in new_net().parameters())
