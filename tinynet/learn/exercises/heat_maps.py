"""What `use` shows for Grad-CAM: a small net, and where its answers come from by the learner's functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SQUARE, SIZE, CLASSES = 8, 24, ("horizontal stripes", "vertical stripes")
SHADES = " .:-=+*#%@"


def show_heat_maps(functions: Mapping[str, Any]) -> bool:
    """Train a small net on drawings, and show where its answers come from; False if the heat maps are wrong.

    functions: those of cam-01. The net ends in a mean over all places and a linear layer. For such a net, the weights
    of the linear layer give the same maps without a gradient (Zhou et al., CVPR 2016), which is compared.
    """
    import tinynet as tn

    rng = np.random.default_rng(0)
    net = _trained(rng)
    images, labels, inside = _drawings(rng, 40)
    with tn.no_grad():
        A = net[:-2](tn.tensor(images)).numpy()
    given = tn.tensor(A, requires_grad=True)
    scores = net[-2:](given)
    heat = functions["heat_map"](
        A, scores.numpy(), labels, lambda gs: tn.grad(scores, given, gs.astype("float32")).numpy(), _enlarged
    )
    count = len(labels)
    share = (heat * inside).sum() / heat.sum()
    peaks = sum(bool(m[h.argmax()]) for m, h in zip(inside.reshape(count, -1), heat.reshape(count, -1)))
    print(
        f"A net of {len(net)} layers learned to tell {' from '.join(CLASSES)}: a square in an image of {SIZE} x {SIZE}."
    )
    print(f"{(scores.numpy().argmax(axis=1) == labels).sum()} of {count} new images are classified right.\n")
    print(f"{'the square':{SIZE + 3}}your heat map for '{CLASSES[labels[0]]}'")
    for row in range(0, SIZE, 2):  # a character is twice as high as wide
        print("".join(".#"[int(m)] for m in inside[0, row]) + "   " + "".join(SHADES[int(9 * h)] for h in heat[0, row]))
    print(f"\nThe square covers {inside.mean():.0%} of an image and holds {share:.0%} of the heat.")
    print(f"The highest point of the heat map lies in the square in {peaks} of {count} images.")
    return _is_weighted_by_the_last_layer(net, A, labels, heat)


def _is_weighted_by_the_last_layer(net: Any, A: np.ndarray, labels: np.ndarray, heat: np.ndarray) -> bool:
    """True if the heat maps are the channels times the weights of the linear layer."""
    weight = net[-1].weight.numpy()  # (C, K)
    large = _enlarged(np.maximum(np.einsum("nyxc,cn->nyx", A, weight[:, labels]), 0))
    expected = large / np.maximum(large.max(axis=(1, 2), keepdims=True), 1e-9)
    is_same = bool(np.allclose(heat, expected, atol=1e-4))
    print(f"The weights of the last layer, without any gradient, give {'the same maps' if is_same else 'other maps'}.")
    return is_same


def _trained(rng: np.random.Generator) -> Any:
    """A net that tells the classes apart: (N, SIZE, SIZE, 1) -> scores (N, 2)."""
    import tinynet as tn
    from tinynet import nn

    tn.seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()),
        *(nn.GlobalAvgPool2d(), nn.Linear(12, len(CLASSES))),
    )
    adam = tn.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        images, labels, _ = _drawings(rng, 32)
        adam.zero_grad()
        tn.softmax_cross_entropy(net(tn.tensor(images)), labels).backward()
        adam.step()
    return net


def _drawings(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images float32 (N, SIZE, SIZE, 1), labels (N,), inside: bool (N, SIZE, SIZE)): a striped square in noise."""
    images = rng.normal(0, 0.5, (count, SIZE, SIZE, 1)).astype("float32")
    labels, inside = rng.integers(0, len(CLASSES), count), np.zeros((count, SIZE, SIZE), bool)
    stripes = np.where(np.arange(SQUARE) // 2 % 2, 1.5, -1.5)[:, None] * np.ones(SQUARE)
    for n, (y, x) in enumerate(rng.integers(0, SIZE - SQUARE + 1, (count, 2))):
        images[n, y : y + SQUARE, x : x + SQUARE, 0] += stripes.T if labels[n] else stripes
        inside[n, y : y + SQUARE, x : x + SQUARE] = True
    return images, labels, inside


def _enlarged(maps: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, SIZE, SIZE), by linear interpolation."""
    import tinynet as tn

    return tn.resize2d(tn.tensor(maps[..., None]), (SIZE, SIZE), "linear").numpy()[..., 0]
