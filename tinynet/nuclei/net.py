"""The trained U-Net as a function on arrays. Its architecture is the one of examples/segmentation/unet_nuclei.py."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import data, nn
from ..errors import CheckpointError
from ..ops import device, no_grad, tensor
from ..tools.bench.examples import load_example
from ..training import io
from .looks import Looks, shipped_looks
from .torch_weights import READERS, load_foreign

SHIPPED_WEIGHTS = Path(data.__file__).parent / "weights" / "unet_nuclei.npz"


@dataclass(frozen=True)
class Net:
    """A trained U-Net: call it with images, and it returns what it sees in them.

    scale: 1.0 if the net was trained on images as they are (`train --native`). None if it was trained on images that
    were resized to one nucleus size, as the shipped net was. path: the file of the weights. looks: how the images
    looked that the net was trained on; if the file does not say it, as those of the shipped net. trained_on_all: no
    image was held out (`train --all`).
    """

    model: nn.Module
    scale: float | None
    path: Path
    looks: Looks = field(default_factory=shipped_looks, repr=False)
    trained_on_all: bool = False

    @property
    def heads(self) -> int:
        """Outputs per pixel: 1 (mask) or 3 (mask, touching border, distance)."""
        return self.model.head.out_channels

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Maps (N, H, W, heads) in [0, 1] of normalized images (N, H, W, 3) float32, computed on the current device."""
        self.model.to(device())
        with no_grad():
            return self.model(tensor(images).to(device())).numpy()


def weights_path(weights: str | Path | None) -> Path:
    """The file that `weights` means; "shipped" is the one that comes with tinynet."""
    return SHIPPED_WEIGHTS if weights in (None, "", "shipped") else Path(weights)


def load_net(weights: str | Path | None = None) -> Net:
    """The net with the weights of a file; by default, or for "shipped", with the weights that come with tinynet.

    weights: a checkpoint of `train`; or a state dict of the same U-Net written in PyTorch, saved by `torch.save` (.pt,
    .pth) or as .safetensors. The weights determine the number of heads. Every call reads the file again, so a caller
    may train the model.
    Raises `CheckpointError` if the file is missing or damaged, or if it holds the weights of another net.
    """
    unet = load_example("segmentation/unet_nuclei.py").UNet
    path = weights_path(weights)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name a file of weights in it, such as {path / 'best.npz'}")
    if path.suffix.lower() in READERS:
        return Net(load_foreign(path, unet).eval(), None, path)
    head = io.load_checkpoint(path)[0].get("model", {}).get("head.weight")
    if head is None:
        raise CheckpointError(f"{path} holds no U-Net: it has no head.weight")
    if np.ndim(head) != 4 or head.shape[-1] not in (1, 3):
        raise CheckpointError(f"{path}: head.weight has shape {np.shape(head)}; (1, 1, 16, 1 or 3) is needed")
    model = unet(heads=head.shape[-1])
    settings = io.load_weights(path, model).get("settings", {})
    scale, looks = 1.0 if settings.get("native") else None, settings.get("looks") or shipped_looks()
    return Net(model.eval(), scale, path, looks, trained_on_all=bool(settings.get("all")))


def kept_net(weights: str | Path | None = None) -> Net:
    """Like `load_net`, but a file that has not changed is not read again. Do not train the model."""
    path = weights_path(weights)
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        changed = 0  # load_net says what is wrong with the file
    return _kept_net(path.absolute(), changed)


@functools.lru_cache(maxsize=2)
def _kept_net(path: Path, changed: int) -> Net:
    return load_net(path)
