"""Compile kernels of a U-Net's training step, for a process that comes to them later.

    python -m tinynet.tools.compile_ahead backward
    python -m tinynet.tools.compile_ahead forward

`backends/numba/helpers.py` says why, and starts them. The process that is helped compiles the kernels from the first
of the forward pass to the last of the backward pass. So the helper `backward` begins with the last ones, which belong
to the first level of the net. The helper `forward` begins with the rest of the forward pass while the helped process
compiles the first layer, and then meets the helper `backward` from the other side. Before each backward pass, the
forward pass runs by the definitions of the kernels, which need no compiler.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

import tinynet as tn

from ..backends.numba.helpers import PARTS
from .bench.examples import load_example


def main(part: str) -> None:
    """Compile one part of the step, then what is left of its backward pass. part: one of `PARTS`, else ValueError."""
    if part not in PARTS:
        raise ValueError(f"compile_ahead: part is {part!r}; it must be one of {', '.join(PARTS)}")
    script = load_example("segmentation/unet_nuclei.py")
    model = script.UNet()
    # Large enough for the kernels that add up gradients: NumPy adds up those of less than 128 KB.
    images, masks = tn.tensor(np.zeros((2, 128, 128, 3), np.float32)), np.ones((2, 128, 128, 1), np.float32)

    def two_levels(d1: tn.Tensor) -> tn.Tensor:
        return model.merge1([model.up1(model.down2(model.pool(d1))), d1])

    def loss_of(logits: tn.Tensor) -> tn.Tensor:
        return script.mask_loss(logits, masks, "bce+dice")

    if part == "forward":
        features = two_levels(tn.tensor(np.zeros((2, 128, 128, 16), np.float32)))
        loss_of(model.head(features))
    else:
        backward_of(lambda: model.down1(images))
        backward_of(lambda: two_levels(model.down1(images)))
    backward_of(lambda: loss_of(model.logits(images)))
    tn.optim.AdamW(model.parameters()).step()


def backward_of(net: Callable[[], tn.Tensor]) -> None:
    """Run the backward pass of a net."""
    with tn.use_backend("reference"):
        y = net()
    y.backward(np.ones(y.shape, np.float32))


if __name__ == "__main__":
    main(sys.argv[1])
