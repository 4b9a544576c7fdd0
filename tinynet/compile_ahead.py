"""Compiles the kernels of the backward pass, for a process that is busy with those of the forward pass.

    python -m tinynet.compile_ahead

Numba compiles one function at a time: its compiler has one lock, and LLVM another. A second core helps through a
second process only. `ops/second_process.py` starts this one when a process that is going to train begins to compile a
convolution; the cache on disk is how the results get across. Together they take as long as the longer half.

The net is the smallest that needs all the kernels of a U-Net. Its forward pass runs by the definitions, where there is
nothing to compile. So do, in the backward pass, the gradients with respect to an input: convolutions too, they share
their loops with the forward pass, and the other process compiles those.
"""

from __future__ import annotations

import contextlib

import numpy as np

import tinynet as tn

from . import nn, optim
from .kernels import implementation_kernel


def level(c_in: int, c_out: int) -> nn.Sequential:
    convolutions = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
    return nn.Sequential(convolutions[0], nn.ELU(), nn.Dropout(0.1), convolutions[1], nn.ELU())


class SmallUNet(nn.Module):
    """Two levels. 3, 16 and 64 channels: conv2d has loops of its own for few, for some and for many."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom, self.across = level(3, 16), level(16, 64), level(32, 16)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(64, 16, 2, stride=2)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        large = self.down(x)
        small = self.bottom(self.pool(large))
        return tn.sigmoid(self.head(self.across(tn.concat([self.up(small), large], axis=-1))))


def by_definition(op: str) -> contextlib.AbstractContextManager:
    return tn.use_kernels(op, backward_input=implementation_kernel(op, "backward_input", "reference"))


def main() -> None:
    """One training step."""
    model = SmallUNet()
    images, masks = np.zeros((1, 32, 32, 3), np.float32), np.ones((1, 32, 32, 1), np.float32)
    with tn.use_backend("reference"):
        loss = tn.dice_loss(model(tn.tensor(images)), masks)
    with by_definition("conv2d"), by_definition("conv_transpose2d"):
        loss.backward()
    optim.Adam(model.parameters()).step()


if __name__ == "__main__":
    main()
