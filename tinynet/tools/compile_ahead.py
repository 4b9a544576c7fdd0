"""Compile the kernels of the backward pass of a U-Net, for a process that compiles those of the forward pass.

    python -m tinynet.tools.compile_ahead

`backends/numba/second_process.py` says why, and starts it. The forward pass runs by the definitions of the kernels,
where there is nothing to compile.
"""

from __future__ import annotations

import numpy as np

import tinynet as tn

from .bench.examples import load_example


def main() -> None:
    """One training step of the U-Net."""
    script = load_example("segmentation/unet_nuclei.py")
    model = script.UNet()
    # Large enough for the kernels that add up gradients: NumPy adds up those of less than 128 KB.
    images, masks = np.zeros((2, 128, 128, 3), np.float32), np.ones((2, 128, 128, 1), np.float32)
    with tn.use_backend("reference"):
        loss = script.mask_loss(model.logits(tn.tensor(images)), tn.tensor(masks), "bce+dice")
    loss.backward()
    tn.optim.AdamW(model.parameters()).step()


if __name__ == "__main__":
    main()
