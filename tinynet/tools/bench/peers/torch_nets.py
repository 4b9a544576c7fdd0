"""The same nets in PyTorch, as its users write them: modules, channels last in memory.

Their layers stand in the order they have in tinynet, so that both can start from the same weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn


class Flatten(nn.Module):
    """(N, C, H, W), channels last in memory, to (N, H W C): the order that lies in memory, and that tinynet has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def alexnet() -> nn.Module:
    def normalization() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)  # PyTorch's alpha is divided by the 5

    return nn.Sequential(
        *(nn.Conv2d(1, 16, 7, stride=2), nn.ReLU(), normalization(), nn.MaxPool2d(3, stride=2)),
        *(nn.Conv2d(16, 32, 5, padding=2, groups=2), nn.ReLU(), normalization(), nn.MaxPool2d(3, stride=2)),
        *(nn.Conv2d(32, 48, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(48, 48, 3, padding=1, groups=2), nn.ReLU()),
        *(nn.Conv2d(48, 32, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        *(Flatten(), nn.Dropout(0.5), nn.Linear(800, 128), nn.ReLU()),
        *(nn.Dropout(0.5), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)),
    )


def autoencoder() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(784, 256), nn.ELU(), nn.Linear(256, 64), nn.ELU(), nn.Linear(64, 30)),
        *(nn.Linear(30, 64), nn.ELU(), nn.Linear(64, 256), nn.ELU(), nn.Linear(256, 784)),
    )


class Listener(nn.Module):
    """Mean and log of the variance of what comes next, by an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.predict = nn.LSTM(2, 64, batch_first=True), nn.Linear(64, 48)
        nn.init.zeros_(self.memory.bias_hh_l0).requires_grad_(False)  # a second bias; tinynet has one

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.predict(self.memory(x)[0])
        return y[:, :, :24], y[:, :, 24:].clip(-6, 6)


def surprise(said: tuple[torch.Tensor, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """The mean of -log p of a normal distribution (but for a constant), behind the warm-up."""
    mean, log_variance = said
    error = target - mean
    return (0.5 * (error * error * torch.exp(-log_variance) + log_variance))[:, 120:].mean()


NETS: dict[str, tuple[Callable[[], nn.Module], Callable]] = {
    "lenet": (lenet, F.cross_entropy),
    "alexnet": (alexnet, F.binary_cross_entropy_with_logits),
    "autoencoder": (autoencoder, F.binary_cross_entropy_with_logits),
    "lstm": (Listener, surprise),
}
