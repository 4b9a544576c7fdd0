"""The same U-Net in PyTorch: an implementation by others, for tests and benchmarks (extra `bench`).

It works on tinynet's own weights and images: channels last outside, transposed to PyTorch's order inside. Run as a
program it reads problems from a file, and writes loss and gradients in float64 and float32 to another: PyTorch and
Numba each bring their own thread pool, which are best kept in processes of their own.

    python torch_unet.py problems.npz answers.npz     # x and target (problems, N, H, W, C), the parameters by name
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.nn.functional as F

LEVELS = {"down1": 0.1, "down2": 0.1, "down3": 0.2, "down4": 0.2, "bottom": 0.3}
LEVELS |= {"merge4": 0.2, "merge3": 0.2, "merge2": 0.1, "merge1": 0.1}


def to_torch(array: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A weight (KH, KW, A, B) -> (B, A, KH, KW), for both kinds of convolution; images (N, H, W, C) -> (N, C, H, W)
    are `images_to_torch`. Biases stay."""
    tensor = torch.tensor(array, dtype=dtype)
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The way back of `to_torch`."""
    return (tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor).detach().numpy()


def images_to_torch(images: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(N, H, W, C) -> (N, C, H, W), kept channels last in memory, the faster order for PyTorch too."""
    return torch.tensor(images, dtype=dtype).permute(0, 3, 1, 2)


def unet(w: dict[str, torch.Tensor], x: torch.Tensor, training: bool = False) -> torch.Tensor:
    """The probabilities (N, 1, H, W); w: the parameters by their names in tinynet, in PyTorch's order."""

    def level(name: str, x: torch.Tensor) -> torch.Tensor:
        x = F.elu(F.conv2d(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"], padding=1))
        x = F.dropout(x, LEVELS[name], training=training)
        return F.elu(F.conv2d(x, w[f"{name}.3.weight"], w[f"{name}.3.bias"], padding=1))

    def up(i: int, y: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        y = F.conv_transpose2d(y, w[f"up{i}.weight"], w[f"up{i}.bias"], stride=2)
        return level(f"merge{i}", torch.cat([y, skip], dim=1))

    d1 = level("down1", x)
    d2 = level("down2", F.max_pool2d(d1, 2))
    d3 = level("down3", F.max_pool2d(d2, 2))
    d4 = level("down4", F.max_pool2d(d3, 2))
    y = level("bottom", F.max_pool2d(d4, 2))
    for i, skip in ((4, d4), (3, d3), (2, d2), (1, d1)):
        y = up(i, y, skip)
    return torch.sigmoid(F.conv2d(y, w["head.weight"], w["head.bias"]))


def dice_loss(p: torch.Tensor, t: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    return 1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth)


def loss_and_gradients(
    weights: dict[str, np.ndarray], x: np.ndarray, target: np.ndarray, dtype: torch.dtype
) -> dict[str, np.ndarray]:
    """{"loss", name of each parameter: its gradient in tinynet's order}, without dropout."""
    w = {name: to_torch(array, dtype).requires_grad_() for name, array in weights.items()}
    loss = dice_loss(unet(w, images_to_torch(x, dtype)), images_to_torch(target, dtype))
    loss.backward()
    return {"loss": loss.detach().numpy()} | {name: to_numpy(p.grad) for name, p in w.items()}


def main(problems: str, answers: str) -> None:
    weights = dict(np.load(problems))
    xs, targets = weights.pop("x"), weights.pop("target")
    found = {}
    for dtype in (torch.float64, torch.float32):
        for i, (x, target) in enumerate(zip(xs, targets)):
            for name, array in loss_and_gradients(weights, x, target, dtype).items():
                found[f"{str(dtype).removeprefix('torch.')}/{i}/{name}"] = array
    np.savez(answers, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
