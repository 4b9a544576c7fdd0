"""Loss and gradients of PyTorch's U-Net of the benchmark: a program, run by test_unet.py (extra `bench`).

PyTorch and Numba each bring their own thread pool, which are best kept in processes of their own. It reads problems
from a file and writes the answers, in float64 and float32, to another:

    python torch_unet.py problems.npz answers.npz     # x and target (problems, N, H, W, C), the parameters by name
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from tinynet.tools.bench.peers.torch_unet import dice_loss, images_to_torch, net_with


def loss_and_gradients(weights: dict[str, np.ndarray], x: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """{"loss", name of each parameter: its gradient in tinynet's order}, without dropout."""
    model = net_with(weights).eval()
    loss = dice_loss(model(images_to_torch(x)), images_to_torch(target))
    loss.backward()
    gradients = {name: to_numpy(p.grad) for name, p in model.named_parameters()}
    return {"loss": loss.detach().numpy()} | gradients


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The way back of `to_torch`: (B, A, KH, KW) -> (KH, KW, A, B)."""
    return (tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor).numpy()


def main(problems: str, answers: str) -> None:
    weights = dict(np.load(problems))
    xs, targets = weights.pop("x"), weights.pop("target")
    found = {}
    for dtype in (np.float64, np.float32):
        cast = {name: w.astype(dtype) for name, w in weights.items()}
        for i, (x, target) in enumerate(zip(xs, targets)):
            for name, array in loss_and_gradients(cast, x.astype(dtype), target.astype(dtype)).items():
                found[f"{np.dtype(dtype).name}/{i}/{name}"] = array
    np.savez(answers, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
