"""The nets that `use` trains for a few steps, with tinynet's functions and with the learner's.

An exercise names its net in `USE`; "unet" is the default. Each training begins with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

STEPS, BATCH = 4, 2
Losses = Iterator[float]


def unet() -> Losses:
    """The U-Net of examples/ on synthetic images of nuclei."""
    import tinynet as tn

    from ...data.maps import binary_map
    from ...data.synthetic import synthetic_nuclei
    from ...tools.bench.examples import load_example

    tn.seed(0)
    net = load_example("segmentation/unet_nuclei.py").UNet()
    samples = [synthetic_nuclei(np.random.default_rng(i), size=32) for i in range(BATCH)]
    images = np.stack([sample.image for sample in samples]).astype("float32") / 255
    masks = np.stack([binary_map(np.asarray(sample.labels)) for sample in samples])[..., None].astype("float32")
    yield from _steps(net.parameters(), lambda: tn.dice_loss(net(tn.tensor(images)), masks))


def vnet() -> Losses:
    """A narrow V-Net of examples/ on synthetic volumes."""
    import tinynet as tn

    from ...data.volumes import stack_volumes, synthetic_volumes
    from ...tools.bench.examples import load_example

    tn.seed(0)
    net = load_example("volumes/vnet_hippocampus.py").VNet(base=4)
    images, labels = stack_volumes(synthetic_volumes(np.random.default_rng(0), BATCH), (16, 24, 20))
    parts = labels.astype(np.int64)
    yield from _steps(net.parameters(), lambda: tn.softmax_dice_loss(net(tn.tensor(images)), parts, squared=True))


def warp() -> Losses:
    """A displacement field that moves one disc onto another, smooth as in VoxelMorph: it is warped by itself."""
    import tinynet as tn

    rows, columns = np.mgrid[:20, :24].astype("float32")
    discs = [1 / (1 + np.exp(np.hypot(rows - y, columns - x) - 5)) for y, x in ((9, 10), (11, 14))]
    moving, fixed = (tn.tensor(disc[None, :, :, None].astype("float32")) for disc in discs)
    velocity = tn.tensor(np.zeros((1, 20, 24, 2), "float32"), requires_grad=True)

    def loss() -> tn.Tensor:
        displacement = velocity / 4
        for _ in range(2):  # scaling and squaring: twice as long each time
            displacement = displacement + tn.warp(displacement, displacement)
        return ((tn.warp(moving, displacement) - fixed) ** 2).mean()

    yield from _steps([velocity], loss, lr=0.5)


def detector() -> Losses:
    """A narrow Faster R-CNN of examples/ on drawings of blood smears. NMS chooses what its head learns from."""
    import tinynet as tn

    from ...data.blood_cells import synthetic_smear
    from ...tools.bench.examples import load_example

    example = load_example("detection/rpn_blood_cells.py")
    tn.seed(0)
    net = example.Detector((8, 12, 16))
    rng = np.random.default_rng(0)
    smears = example.Training([synthetic_smear(rng, (72, 96)) for _ in range(BATCH)], repeats=1)
    images, *targets = map(np.stack, zip(*(smears.item(i, rng) for i in range(BATCH))))
    x = tn.tensor(images.astype("float32"))
    yield from _steps(net.parameters(), lambda: example.detection_loss(net, x, *targets))


NETS: dict[str, tuple[str, Callable[[], Losses]]] = {
    "unet": (f"The U-Net on {BATCH} synthetic images of 32 x 32", unet),
    "vnet": (f"A V-Net on {BATCH} synthetic volumes of 16 x 24 x 20", vnet),
    "warp": ("A displacement field that learns to move one image onto another", warp),
    "detector": (f"A Faster R-CNN on {BATCH} drawings of blood smears", detector),
}


def _steps(parameters: Any, loss_of: Callable[[], Any], lr: float = 1e-3) -> Losses:
    """The loss of each step of Adam."""
    import tinynet as tn

    adam = tn.optim.Adam(parameters, lr=lr)
    for _ in range(STEPS):
        adam.zero_grad()
        loss = loss_of()
        loss.backward()
        adam.step()
        yield float(loss.data)
