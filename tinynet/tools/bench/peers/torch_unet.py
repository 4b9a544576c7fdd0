"""The same U-Net in PyTorch, as its users write it: modules, channels last in memory.

Its parameters have the names they have in tinynet, so that both can start from the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from ..examples import SMOOTH


def level(c_in: int, c_out: int, p: float) -> nn.Sequential:
    """One level of the U-Net."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.ELU(),
        nn.Dropout(p),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.ELU(),
    )


class UNet(nn.Module):
    """x: (N, 3, H, W), H and W multiples of 16; returns (N, 1, H, W) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = level(3, 16, 0.1)
        self.down2 = level(16, 32, 0.1)
        self.down3 = level(32, 64, 0.2)
        self.down4 = level(64, 128, 0.2)
        self.bottom = level(128, 256, 0.3)
        self.up4, self.merge4 = nn.ConvTranspose2d(256, 128, 2, stride=2), level(256, 128, 0.2)
        self.up3, self.merge3 = nn.ConvTranspose2d(128, 64, 2, stride=2), level(128, 64, 0.2)
        self.up2, self.merge2 = nn.ConvTranspose2d(64, 32, 2, stride=2), level(64, 32, 0.1)
        self.up1, self.merge1 = nn.ConvTranspose2d(32, 16, 2, stride=2), level(32, 16, 0.1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d1 = self.down1(x)
        d2 = self.down2(self.pool(d1))
        d3 = self.down3(self.pool(d2))
        d4 = self.down4(self.pool(d3))
        y = self.bottom(self.pool(d4))
        y = self.merge4(torch.cat([self.up4(y), d4], dim=1))
        y = self.merge3(torch.cat([self.up3(y), d3], dim=1))
        y = self.merge2(torch.cat([self.up2(y), d2], dim=1))
        y = self.merge1(torch.cat([self.up1(y), d1], dim=1))
        return torch.sigmoid(self.head(y))


def dice_loss(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The soft Dice loss over the whole batch."""
    return 1 - (2 * (p * t).sum() + SMOOTH) / (p.sum() + t.sum() + SMOOTH)


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Weights of convolutions (KH, KW, A, B) -> (B, A, KH, KW), of linear layers (A, B) -> (B, A); a bias stays."""
    return torch.tensor(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)


def images_to_torch(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, C) -> (N, C, H, W), kept channels last in memory."""
    return torch.tensor(images).permute(0, 3, 1, 2)


def net_with(weights: Mapping[str, np.ndarray]) -> UNet:
    """The net with tinynet's parameters, in their dtype."""
    model = UNet().to(next(iter(to_torch(w).dtype for w in weights.values())))
    model.load_state_dict({name: to_torch(array) for name, array in weights.items()})
    return model
