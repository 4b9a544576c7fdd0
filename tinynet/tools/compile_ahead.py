"""Compile the kernels of the backward pass of a U-Net, for a process that compiles those of the forward pass.

    python -m tinynet.tools.compile_ahead

`backends/numba/second_process.py` says why, and starts it. The forward pass runs by the definitions of the kernels,
where there is nothing to compile. The process that this one helps comes to the backward pass later, and compiles its
kernels from the first to the last. So this one begins with the last ones, which belong to the first level of the net.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tinynet as tn

from .bench.examples import load_example


def main() -> None:
    """Backward passes of the U-Net's first level, of its first two levels, and of all with the loss; then Adam."""
    script = load_example("segmentation/unet_nuclei.py")
    model = script.UNet()
    # Large enough for the kernels that add up gradients: NumPy adds up those of less than 128 KB.
    images, masks = tn.tensor(np.zeros((2, 128, 128, 3), np.float32)), np.ones((2, 128, 128, 1), np.float32)

    def two_levels() -> tn.Tensor:
        d1 = model.down1(images)
        return model.merge1([model.up1(model.down2(model.pool(d1))), d1])

    backward_of(lambda: model.down1(images))
    backward_of(two_levels)
    backward_of(lambda: script.mask_loss(model.logits(images), masks, "bce+dice"))
    tn.optim.AdamW(model.parameters()).step()


def backward_of(net: Callable[[], tn.Tensor]) -> None:
    """Run the backward pass of a net."""
    with tn.use_backend("reference"):
        y = net()
    y.backward(np.ones(y.shape, np.float32))


if __name__ == "__main__":
    main()
