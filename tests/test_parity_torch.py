"""Values and gradients beside PyTorch's, on random shapes and geometries, in float64 and float32.

`pytest -m bench tests/test_parity_torch.py`. PyTorch keeps channels first, so arrays are converted both ways. RoI align
is a part of torchvision, so it is written out here for PyTorch to differentiate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinynet as tn
from tinynet import boxes, nn

pytestmark = pytest.mark.bench


class Pair(NamedTuple):
    """mine(*arrays) and theirs(*tensors), of arrays that both differentiate, each with its conversion."""

    mine: Callable
    theirs: Callable
    arrays: list[tuple[np.ndarray, Any]]
    channels_last: bool = True  # whether the result is an image, too


def image(array, dtype=None):
    """Channels last to channels first, or back if `dtype` is given."""
    return np.moveaxis(array, -1, 1) if dtype is None else np.moveaxis(array, 1, -1)


def weight(array, dtype=None):
    """(kernel..., in, out) to (out, in, kernel...), or back: for transposed convolutions, too."""
    axes = range(array.ndim)
    return array.transpose(axes[-1], axes[-2], *axes[:-2]) if dtype is None else array.transpose(*axes[2:], 1, 0)


def plain(array, dtype=None):
    return array


def between(rng, low, high, count=3):
    return tuple(int(n) for n in rng.integers(low, high + 1, count))


# ------------------------------------------------------------------------------------- convolutions and pooling
def convolution(axes: int, depthwise: bool = False):
    def draw(rng, torch):
        groups = 4 if depthwise else int(rng.choice([1, 2]))
        kernel, size = between(rng, 1, 3, axes), between(rng, 6, 9, axes)
        geometry = {"stride": between(rng, 1, 3, axes), "padding": between(rng, 0, 2, axes)}
        geometry |= {"dilation": between(rng, 1, 2, axes), "groups": groups}
        x, w = rng.standard_normal((2, *size, 4)), rng.standard_normal((*kernel, 4 // groups, 4 if depthwise else 6))
        mine, theirs = getattr(tn, f"conv{axes}d"), getattr(torch.nn.functional, f"conv{axes}d")
        return Pair(
            lambda x, w, b: mine(x, w, b, **geometry),
            lambda x, w, b: theirs(x, w, b, **geometry),
            [(x, image), (w, weight), (rng.standard_normal(w.shape[-1]), plain)],
        )

    return draw


def conv_transpose3d(rng, torch):
    stride = between(rng, 1, 3)
    geometry = {"stride": stride, "output_padding": tuple(int(rng.integers(0, s)) for s in stride)}
    kernel = between(rng, 1, 3)
    geometry["padding"] = tuple(int(rng.integers(0, k)) for k in kernel)
    x, w = rng.standard_normal((2, *between(rng, 3, 5), 4)), rng.standard_normal((*kernel, 3, 4))
    return Pair(
        lambda x, w, b: tn.conv_transpose3d(x, w, b, **geometry),
        lambda x, w, b: torch.nn.functional.conv_transpose3d(x, w, b, **geometry),
        [(x, image), (w, weight), (rng.standard_normal(3), plain)],
    )


def pooling(name: str):
    def draw(rng, torch):
        size = between(rng, 1, 3)
        windows = (size, between(rng, 1, 3), tuple(int(rng.integers(0, s // 2 + 1)) for s in size))
        x = rng.standard_normal((2, *between(rng, 5, 8), 3))
        theirs = getattr(torch.nn.functional, name)
        return Pair(lambda x: getattr(tn, name)(x, *windows), lambda x: theirs(x, *windows), [(x, image)])

    return draw


# ------------------------------------------------------------------------------------- resize and sample
def resizing(axes: int, mode: str):
    def draw(rng, torch):
        size = between(rng, 1, 13, axes)
        x = rng.standard_normal((2, *between(rng, 1, 8, axes), 3))
        options = {"mode": "nearest-exact"}
        if mode == "linear":
            options = {"mode": {2: "bilinear", 3: "trilinear"}[axes], "align_corners": False}
        mine = getattr(tn, f"resize{axes}d")
        return Pair(
            lambda x: mine(x, size, mode),
            lambda x: torch.nn.functional.interpolate(x, size=size, **options),
            [(x, image)],
        )

    return draw


def sampling(axes: int, padding: str):
    def draw(rng, torch):
        x = rng.standard_normal((2, *between(rng, 1, 6, axes), 3))
        grid = rng.uniform(-1.6, 1.6, (2, *between(rng, 1, 6, axes), axes))
        mine = getattr(tn, f"grid_sample{axes}d")
        return Pair(
            lambda x, grid: mine(x, grid, padding),
            lambda x, grid: torch.nn.functional.grid_sample(x, grid, padding_mode=padding, align_corners=False),
            [(x, image), (grid, plain)],
        )

    return draw


def affine_grid(axes: int):
    def draw(rng, torch):
        size = between(rng, 1, 6, axes)
        return Pair(
            lambda m: tn.affine_grid(m, size),
            lambda m: torch.nn.functional.affine_grid(m, (2, 1, *size), align_corners=False),
            [(rng.standard_normal((2, axes, axes + 1)), plain)],
            channels_last=False,
        )

    return draw


def aligned_by_torch(torch, x, box, size, scale, samples):
    """RoI align of one box (y1, x1, y2, x2) of x (C, H, W), with torchvision's rules for points at the border."""
    y1, x1, y2, x2 = (float(v) * scale - 0.5 for v in box)
    height, width = x.shape[1:]
    rows = []
    for i, j in np.ndindex(size):
        values = []
        for a, b in np.ndindex(samples, samples):
            y = y1 + (y2 - y1) / size[0] * (i + (a + 0.5) / samples)
            column = x1 + (x2 - x1) / size[1] * (j + (b + 0.5) / samples)
            if y < -1 or y > height or column < -1 or column > width:
                values.append(0 * x[:, 0, 0])
                continue
            y, column = min(max(y, 0), height - 1), min(max(column, 0), width - 1)
            top, left = int(y), int(column)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            fy, fx = y - top, column - left
            upper = (1 - fx) * x[:, top, left] + fx * x[:, top, right]
            lower = (1 - fx) * x[:, below, left] + fx * x[:, below, right]
            values.append((1 - fy) * upper + fy * lower)
        rows.append(sum(values) / len(values))
    return torch.stack(rows, -1).reshape(-1, *size)


def roi_align(rng, torch):
    x, count = rng.standard_normal((2, *between(rng, 1, 7, 2), 2)), 5
    size, samples, images = between(rng, 1, 3, 2), int(rng.integers(1, 3)), rng.integers(0, 2, count)
    corner = rng.uniform(-6, 12, (count, 2))
    rois = np.concatenate([corner, corner + rng.uniform(0, 9, (count, 2))], axis=1)
    return Pair(
        lambda x: boxes.roi_align(x, rois, images, size, scale=0.5, samples=samples),
        lambda x: torch.stack([aligned_by_torch(torch, x[n], r, size, 0.5, samples) for n, r in zip(images, rois)]),
        [(x, image)],
    )


# ------------------------------------------------------------------------------------- norms, activations, losses
def group_norm(rng, torch):
    groups, axes = int(rng.choice([1, 2, 3, 6])), int(rng.integers(1, 4))
    x = 2 * rng.standard_normal((2, *between(rng, 4, 5, axes), 6)) + 1  # of two values, the gradient is nearly 0
    return Pair(
        lambda x, gamma, beta: tn.group_norm(x, gamma, beta, groups=groups),
        lambda x, gamma, beta: torch.nn.functional.group_norm(x, groups, gamma, beta),
        [(x, image), *((rng.standard_normal(6), plain) for _ in range(2))],
    )


def instance_norm(rng, torch):
    axes = int(rng.integers(2, 4))
    x = 2 * rng.standard_normal((2, *between(rng, 2, 5, axes), 3)) + 1
    return Pair(nn.InstanceNorm(3), torch.nn.functional.instance_norm, [(x, image)])


def prelu(rng, torch):
    x = rng.standard_normal((2, *between(rng, 1, 4, 2), 3))
    return Pair(
        tn.prelu, torch.nn.functional.prelu, [(x, image), (rng.standard_normal(int(rng.choice([1, 3]))), plain)]
    )


def smooth_l1_loss(rng, torch):
    beta, reduction = float(rng.uniform(0.1, 2)), str(rng.choice(["mean", "sum"]))
    x, t = rng.standard_normal((2, *between(rng, 1, 5, 2)))
    return Pair(
        lambda x, t: tn.smooth_l1_loss(x, t, beta=beta, reduction=reduction),
        lambda x, t: torch.nn.functional.smooth_l1_loss(x, t, beta=beta, reduction=reduction),
        [(x, plain), (t, plain)],
        channels_last=False,
    )


def focal_loss(rng, torch):
    gamma, x = float(rng.uniform(0, 4)), 4 * rng.standard_normal((3, 5))
    bits = rng.integers(0, 2, x.shape)

    def theirs(x):
        p = torch.sigmoid(torch.where(torch.tensor(bits == 1), x, -x))
        return (torch.tensor(np.where(bits, 0.3, 0.7)).to(x) * (1 - p) ** gamma * -torch.log(p)).mean()

    return Pair(lambda x: tn.focal_loss(x, bits, alpha=0.3, gamma=gamma), theirs, [(x, plain)], channels_last=False)


def softmax_dice_loss(rng, torch):
    squared, per_image = bool(rng.integers(0, 2)), bool(rng.integers(0, 2))
    x = 3 * rng.standard_normal((2, *between(rng, 1, 4, 3), 3))
    labels = rng.integers(0, 3, x.shape[:-1])
    shape = (2, 3, -1) if per_image else (1, 3, -1)

    def theirs(x):
        p, t = torch.softmax(x, 1), torch.tensor(image(np.eye(3)[labels]).copy()).to(x)
        if not per_image:
            p, t = p.transpose(0, 1), t.transpose(0, 1)
        p, t = p.reshape(shape)[:, 1:], t.reshape(shape)[:, 1:]
        sizes = ((p * p if squared else p) + t).sum(-1)
        return (1 - (2 * (p * t).sum(-1) + 0.5) / (sizes + 0.5)).mean()

    options = {"squared": squared, "per_image": per_image, "smooth": 0.5, "classes": (1, 2)}
    return Pair(lambda x: tn.softmax_dice_loss(x, labels, **options), theirs, [(x, image)], channels_last=False)


def ncc_loss(rng, torch):
    axes, window = int(rng.integers(2, 4)), int(rng.choice([3, 5]))
    x, t = rng.random((2, 1, *between(rng, 5, 7, axes), 1))
    pool = getattr(torch.nn.functional, f"avg_pool{axes}d")

    def sums(x):
        return pool(x, window, 1, window // 2) * window**axes

    def theirs(x, t):
        count = sums(torch.ones_like(x))
        cross = sums(x * t) - sums(x) * sums(t) / count
        variances = [sums(a * a) - sums(a) ** 2 / count for a in (x, t)]
        return 1 - (cross**2 / (variances[0] * variances[1] + 1e-3)).mean()

    return Pair(
        lambda x, t: tn.ncc_loss(x, t, window=window, eps=1e-3), theirs, [(x, image), (t, image)], channels_last=False
    )


def scatter_add(rng, torch):
    x, rows = rng.standard_normal((4, 3)), rng.integers(0, 4, 9)
    return Pair(
        lambda x, v: tn.scatter_add(x, rows, v),
        lambda x, v: x.index_add(0, torch.tensor(rows), v),
        [(x, plain), (rng.standard_normal((9, 3)), plain)],
        channels_last=False,
    )


def gather(rng, torch):
    rows, columns = rng.integers(0, 4, (2, 3, 6))
    return Pair(
        lambda x: x[rows, columns], lambda x: x[rows, columns], [(rng.standard_normal((4, 4, 2)), plain)], False
    )


PAIRS = {
    "conv2d": convolution(2),
    "conv2d, depthwise": convolution(2, depthwise=True),
    "conv3d": convolution(3),
    "conv_transpose3d": conv_transpose3d,
    "max_pool3d": pooling("max_pool3d"),
    "avg_pool3d": pooling("avg_pool3d"),
    **{f"resize{axes}d, {mode}": resizing(axes, mode) for axes in (2, 3) for mode in ("linear", "nearest")},
    **{f"grid_sample{axes}d, {p}": sampling(axes, p) for axes in (2, 3) for p in ("zeros", "border")},
    **{f"affine_grid, {axes} axes": affine_grid(axes) for axes in (2, 3)},
    **{f.__name__: f for f in (roi_align, group_norm, instance_norm, prelu, smooth_l1_loss, focal_loss)},
    **{f.__name__: f for f in (softmax_dice_loss, ncc_loss, scatter_add, gather)},
}
TOLERANCE = {np.float64: 1e-11, np.float32: 1e-5}


def largest_difference(mine, theirs):
    return float(np.abs(mine - theirs).max() / (np.abs(theirs).max() + 1e-3)) if mine.size else 0.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_agree(name, dtype):
    torch = pytest.importorskip("torch")
    for seed in range(15):
        rng = np.random.default_rng(seed)
        pair = PAIRS[name](rng, torch)
        leaves = [tn.tensor(a.astype(dtype), requires_grad=True) for a, _ in pair.arrays]
        tensors = [torch.tensor(convert(a.astype(dtype)).copy(), requires_grad=True) for a, convert in pair.arrays]
        y, their_y = pair.mine(*leaves), pair.theirs(*tensors)
        back = image if pair.channels_last else plain
        gy = rng.standard_normal(their_y.shape).astype(dtype)
        y.backward(back(gy, dtype))
        their_y.backward(torch.tensor(gy))
        assert y.dtype == dtype
        results = [(y.numpy(), back(their_y.detach().numpy(), dtype))]
        results += [
            (a.grad.numpy(), convert(b.grad.numpy(), dtype)) for a, b, (_, convert) in zip(leaves, tensors, pair.arrays)
        ]
        for what, (mine, theirs) in zip(["y", "gradient 0", "gradient 1", "gradient 2"], results):
            assert mine.shape == theirs.shape, (seed, what)
            assert largest_difference(mine, theirs) <= TOLERANCE[dtype], (seed, what)
