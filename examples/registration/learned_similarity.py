"""A learned similarity: a net decides whether two patches show the same place, and its gradient registers two stains.

    python examples/registration/learned_similarity.py

TODO
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import (
    DataError,
    StainedSlice,
    common_landmarks,
    read_stained_slices,
    synthetic_stained_slices,
)
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

# ---------------------------------------------------------------------------------------- the images
LEVELS = (8, 4)  # the images are reduced by these factors, coarse first; lengths below are pixels of the originals
PATCH = 32  # pixels of the reduced image: 256 and 128 pixels of the original


def gray_levels(image: np.ndarray, factor: int) -> np.ndarray:
    """The reduced image: mean over factor x factor pixels, darkness instead of brightness, mean 0 and deviation 1.

    image: uint8 (H, W, 3). Returns float32 (H // factor, W // factor).
    """
    height, width = (size // factor for size in image.shape[:2])
    dark = 255 - image[: height * factor, : width * factor].astype(np.float32).mean(axis=2)
    small = dark.reshape(height, factor, width, factor).mean(axis=(1, 3))
    return (small - small.mean()) / (small.std() + 1e-6)


# ---------------------------------------------------------------------------------------- affine maps
# An affine map takes a place (y, x) of the fixed image to linear @ (y, x) + shift of the moving image, in pixels of the
# originals: (N, 2, 3) = [linear | shift].
def best_affine(places: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The affine map (2, 3) with the least squared distance from the mapped `places` to `targets`, both (L, 2)."""
    extended = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    return np.linalg.lstsq(extended, targets, rcond=None)[0].T


def mapped(matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places (..., 2) after an affine map (2, 3)."""
    return places @ matrix[:, :2].T + matrix[:, 2]


def landmark_error(matrix: np.ndarray, fixed: np.ndarray, moving: np.ndarray) -> float:
    """Mean distance in pixels of the mapped landmarks of the fixed image from those of the moving image."""
    return float(np.linalg.norm(mapped(matrix, fixed) - moving, axis=1).mean())


def read_at(image: tn.Tensor, points: tn.Tensor, factor: int) -> tn.Tensor:
    """A reduced image (H, W) at points (N, h, w, 2), (y, x) in pixels of the original: (N, h, w, 1)."""
    n, h, w, _ = points.shape
    height, width = image.shape
    # Pixel 0 of the original has its center at 0, hence the half; grid_sample2d wants (x, y) from -1 to 1.
    scale = np.array([2 / (height * factor), 2 / (width * factor)], points.dtype)
    grid = (points + 0.5) * tn.tensor(scale).to(tn.device()) - 1
    grid = grid[..., ::-1].reshape(1, n * h, w, 2)  # one image, so all points are one grid
    return tn.grid_sample2d(image.reshape(1, height, width, 1), grid, padding="border").reshape(n, h, w, 1)


# ---------------------------------------------------------------------------------------- the net
def similarity_net() -> nn.Sequential:
    """x: (N, H, W, 2), fixed and moving -> (N, h, w, 1): a score of each patch of 32 x 32 pixels, 4 pixels apart.

    One patch gives one score. Average pooling and ELU have no jumps: the score changes smoothly as the images move.
    """
    return nn.Sequential(
        nn.Conv2d(2, 16, 3),
        nn.ELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 32, 3),
        nn.ELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(32, 32, 3),
        nn.ELU(),
        nn.Conv2d(32, 64, 4),
        nn.ELU(),
        nn.Conv2d(64, 1, 1),
    )


# ---------------------------------------------------------------------------------------- training
@dataclass
class Pair:
    """Two slices on the levels of the pyramid, and the affine map of the landmarks from fixed to moving."""

    name: str
    fixed: list[np.ndarray]
    moving: list[np.ndarray]
    matrix: np.ndarray
    landmarks: tuple[np.ndarray, np.ndarray]
    images: tuple[np.ndarray, np.ndarray]


def make_pair(fixed: StainedSlice, moving: StainedSlice) -> Pair:
    places, targets = common_landmarks(fixed, moving)
    levels = [[gray_levels(s.image, factor) for factor in LEVELS] for s in (fixed, moving)]
    name = f"{fixed.stain} - {moving.stain}"
    return Pair(name, *levels, best_affine(places, targets), (places, targets), (fixed.image, moving.image))


NEAR, FAR = 1.0, 14.0
JITTER = 0.25


def patch_points(count, size, factor, rng):
    """Random patches"""
    height, width = size
    angle = rng.uniform(0, 2 * np.pi, count)
    flip = rng.choice((-1, 1), count)
    zoom = rng.uniform(0.85, 1.2, count)
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    linear = np.stack([np.stack([cos, -sin * flip], -1), np.stack([sin, cos * flip], -1)], -2)
    steps = (np.arange(PATCH) - (PATCH - 1) / 2) * factor
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1)
    m = PATCH * factor * 0.5
    centers = np.stack([rng.uniform(m, height - m, count), rng.uniform(m, width - m, count)], -1)
    return centers[:, None, None] + np.einsum("nij,hwj->nhwi", linear, offsets)


def batch(pairs, count, rng):
    """count patches, half aligned"""
    level = rng.integers(len(LEVELS))
    factor = LEVELS[level]
    out, labels = [], []
    for pair in (pairs[i] for i in rng.permutation(len(pairs))[:3]):
        n = count // min(3, len(pairs))
        a, b = pair.fixed[level], pair.moving[level]
        points = patch_points(n, np.array(a.shape) * factor, factor, rng)
        label = np.arange(n) % 2
        direction = rng.uniform(0, 2 * np.pi, n)
        length = np.where(label == 1, rng.uniform(0, JITTER, n), np.exp(rng.uniform(np.log(NEAR), np.log(FAR), n)))
        turn = np.where(label == 1, 0, rng.uniform(-1, 1, n) * 0.15)
        shift = (length * factor)[:, None] * np.stack([np.cos(direction), np.sin(direction)], -1)
        center = points.mean(axis=(1, 2), keepdims=True)
        R = np.stack([np.stack([np.cos(turn), -np.sin(turn)], -1), np.stack([np.sin(turn), np.cos(turn)], -1)], -2)
        target = mapped(pair.matrix, center + np.einsum("nij,nhwj->nhwi", R, points - center) + shift[:, None, None])
        both = [read_at(tn.tensor(im), tn.tensor(p.astype(np.float32)), factor).numpy() for im, p in ((a, points), (b, target))]
        both = [x * rng.uniform(0.6, 1.4, (n, 1, 1, 1)) + rng.normal(0, 0.2, (n, 1, 1, 1)) for x in both]
        x = np.concatenate(both, -1)
        swap = rng.random(n) < 0.5
        x[swap] = x[swap][..., ::-1]
        out.append(x)
        labels.append(label)
    return np.concatenate(out).astype(np.float32), np.concatenate(labels).astype(np.float32)


def train(pairs: list[Pair], config: Config, seed: int) -> nn.Sequential:
    tn.seed(seed)
    rng = np.random.default_rng(seed)
    model = similarity_net().to(tn.device())
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-2)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=max(1, config.steps // 20), floor=0.01)
    losses = []
    for i in tqdm(range(config.steps), f"seed {seed}", leave=False, disable=None):
        x, labels = batch(pairs, config.batch_size, rng)
        logits = model(tn.tensor(x).to(tn.device()))[:, 0, 0, 0]
        loss = tn.bce_with_logits(logits, tn.tensor(labels).to(tn.device()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if i % 100 == 99:
            print(i, np.mean(losses[-100:]), flush=True)
    return model.eval()


# ---------------------------------------------------------------------------------------- the measures
# Each takes the fixed and the moving image, (N, h, w, 1), and returns (N,): larger where they fit better.
Measure = Callable[[tn.Tensor, tn.Tensor], tn.Tensor]


def squared_difference(fixed: tn.Tensor, moving: tn.Tensor) -> tn.Tensor:
    """Minus the mean squared difference: right if equal places have equal gray levels."""
    return -((fixed - moving) ** 2).mean(axis=(1, 2, 3))


def correlation(fixed: tn.Tensor, moving: tn.Tensor) -> tn.Tensor:
    """Normalized cross-correlation: right if the gray levels of one are a linear function of those of the other."""
    f, m = (x - x.mean(axis=(1, 2, 3), keepdims=True) for x in (fixed, moving))
    axes = (1, 2, 3)
    return (f * m).mean(axis=axes) / tn.sqrt((f * f).mean(axis=axes) * (m * m).mean(axis=axes) + 1e-12)


BINS = np.linspace(-2, 4, 17)  # gray levels, in standard deviations from the mean


def mutual_information(fixed: tn.Tensor, moving: tn.Tensor) -> tn.Tensor:
    """Mutual information of the gray levels, in nats: right if one predicts the other in whatever way."""
    weights = []
    for x in (fixed, moving):
        centers = tn.tensor(BINS.astype(x.dtype)).to(tn.device())
        distance = (x.reshape(len(x), -1, 1) - centers) / float(BINS[1] - BINS[0])
        w = tn.exp(distance**2 * -2)
        weights.append(w / (w.sum(axis=2, keepdims=True) + 1e-12))
    f, m = weights
    joint = tn.matmul(f.swapaxes(1, 2), m) / f.shape[1] if hasattr(tn, "matmul") else f.swapaxes(1, 2) @ m / f.shape[1]
    product = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    return (joint * (tn.log(joint + 1e-9) - tn.log(product + 1e-9))).sum(axis=(1, 2))


def learned(model: nn.Sequential) -> Measure:
    """The mean score of all patches."""

    def measure(fixed: tn.Tensor, moving: tn.Tensor) -> tn.Tensor:
        return model(tn.concat([fixed, moving], axis=3)).mean(axis=(1, 2, 3))

    return measure


# ---------------------------------------------------------------------------------------- registration
MARGIN = 96  # pixels
REACH = 250.0


def inner_points(pair: Pair, level: int) -> np.ndarray:
    factor = LEVELS[level]
    height, width = (size * factor for size in pair.fixed[level].shape)
    rows, columns = (np.arange(MARGIN + (factor - 1) / 2, size - MARGIN, factor) for size in (height, width))
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).astype(np.float32)


def rotations(angles, linear):
    cos, sin = tn.cos(angles), tn.sin(angles)
    return tn.matmul(tn.stack([tn.stack([cos, -sin], axis=1), tn.stack([sin, cos], axis=1)], axis=1), linear)


def similarity(measure, pair, level, start, q):
    """(N,)"""
    points = inner_points(pair, level)
    n = len(start)
    center = points.reshape(-1, 2).mean(axis=0)
    s = start.astype(np.float32)
    base = tn.tensor((s[:, :, :2] @ center + s[:, :, 2])[:, None]).to(tn.device())
    linear = rotations(q[:, 0] / REACH, tn.tensor(s[:, :, :2]).to(tn.device()))
    flat = tn.tensor((points.reshape(1, -1, 2) - center)).to(tn.device())
    target = tn.matmul(flat, linear.swapaxes(1, 2)) + base + q[:, 1:].reshape(n, 1, 2)
    h, w, _ = points.shape
    moving = read_at(tn.tensor(pair.moving[level]).to(tn.device()), target.reshape(n, h, w, 2), LEVELS[level])
    fixed = read_at(tn.tensor(pair.fixed[level]).to(tn.device()), tn.tensor(points[None]).to(tn.device()), LEVELS[level])
    return measure(tn.broadcast_to(fixed, moving.shape), moving)


def matrices(pair, level, start, q):
    center = inner_points(pair, level).reshape(-1, 2).mean(axis=0).astype(np.float64)
    linear = rotations(tn.tensor(q[:, 0] / REACH), tn.tensor(start[:, :, :2])).numpy()
    shift = start[:, :, :2] @ center + start[:, :, 2] + q[:, 1:] - linear @ center
    return np.concatenate([linear, shift[:, :, None]], axis=2)


def register(measure, pair, start, steps):
    """(N, 2, 3)"""
    for level, factor in enumerate(LEVELS):
        q = tn.tensor(np.zeros((len(start), 3), np.float32)).to(tn.device())
        q.requires_grad = True
        optimizer = optim.Adam([q], 0.5 * factor)
        schedule = optim.CosineDecay(optimizer, steps, floor=0.02)
        for _ in range(steps):
            loss = -similarity(measure, pair, level, start, q).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        start = matrices(pair, level, start, q.detach().numpy().astype(np.float64))
    return start
