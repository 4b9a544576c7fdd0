"""Registration: rigid transforms of points, images read at points, and measures of how well two images fit.

A place is (y, x) in pixels; the center of pixel 0 is at 0. A rigid transform of the plane is three numbers (angle, dy,
dx), an angle in radians and a shift in pixels: rotate about a center, then shift. A positive angle turns the y axis
towards the x axis. Images are registered by a transform if fixed[place] and moving[transform(place)] show the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.arrays import array_module
from ..engine.basic_ops import exp, log, sqrt
from ..engine.tensor import Tensor
from ..ops._composed.functions import cos, sin
from ..ops._shared.checks import check_float, check_ndim
from ..ops.concat.op import stack
from ..ops.matmul.op import matmul
from ..ops.sample.op import sampled

PIXELS = (1, 2, 3)  # the axes of an image (N, H, W, C) that a measure takes together


# ---------------------------------------------------------------------------------------- transforms
def rigid(p: Tensor, places: Any, center: Any) -> Any:
    """Places after rigid transforms. Differentiable in p and places.

    p: (N, 3), transforms. places: (M, 2) or (N, M, 2), a Tensor or an array. center: (2,), of the rotation. Returns
    (N, M, 2) of the dtype of p. Raises TypeError or ValueError, naming the argument, for another dtype or shape.
    """
    check_float("rigid", p=p)
    if p.ndim != 2 or p.shape[1] != 3:
        raise ValueError(f"rigid: p has shape {tuple(p.shape)}; (N, 3), rows of (angle, dy, dx), is needed")
    if places.ndim not in (2, 3) or places.shape[-1] != 2 or (places.ndim == 3 and len(places) not in (1, len(p))):
        raise ValueError(f"rigid: places has shape {tuple(places.shape)}; (M, 2) or ({len(p)}, M, 2) is needed")
    middle = array_module(p.data).asarray(center, p.dtype)
    c, s = cos(p[:, 0]), sin(p[:, 0])
    transposed = stack([stack([c, s], axis=1), stack([-s, c], axis=1)], axis=1)
    return matmul(_as_constant(places, p) - middle, transposed) + (middle + p[:, 1:].reshape(len(p), 1, 2))


def _as_constant(values: Any, like: Tensor) -> Any:
    """An array on the device and with the dtype of a tensor. A Tensor is returned as it is."""
    return values if isinstance(values, Tensor) else array_module(like.data).asarray(values, like.dtype)


def moved(p: np.ndarray, places: np.ndarray, center: Any) -> np.ndarray:
    """`rigid` for arrays: p (N, 3), places (M, 2) or (N, M, 2). Returns (N, M, 2)."""
    c, s = np.cos(p[:, 0]), np.sin(p[:, 0])
    transposed = np.stack([np.stack([c, s], axis=1), np.stack([-s, c], axis=1)], axis=1)
    return (places - center) @ transposed + (center + p[:, None, 1:])


def composed(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The transforms place -> first(then(place)) about one center: arrays (N, 3)."""
    c, s = np.cos(first[:, 0]), np.sin(first[:, 0])
    dy, dx = then[:, 1], then[:, 2]
    return np.stack([first[:, 0] + then[:, 0], c * dy - s * dx + first[:, 1], s * dy + c * dx + first[:, 2]], axis=1)


def inverse(p: np.ndarray) -> np.ndarray:
    """The inverse transforms about the same center: arrays (N, 3)."""
    back = np.concatenate([-p[:, :1], np.zeros((len(p), 2))], axis=1)
    return composed(back, np.concatenate([np.zeros((len(p), 1)), -p[:, 1:]], axis=1))


def best_rigid(places: np.ndarray, targets: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The rigid transform (1, 3) with the least squared distance of the moved `places` from `targets`, both (L, 2)."""
    (y, x), (v, u) = (places - places.mean(axis=0)).T, (targets - targets.mean(axis=0)).T
    p = np.zeros((1, 3))
    p[0, 0] = np.arctan2(np.sum(y * u - x * v), np.sum(y * v + x * u))
    p[0, 1:] = (targets - moved(p, places, center)[0]).mean(axis=0)
    return p


def best_affine(places: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The affine map (3, 2) with the least squared distance of [places, 1] @ map from `targets`, both (L, 2)."""
    return np.linalg.lstsq(np.c_[places, np.ones(len(places))], targets, rcond=None)[0]


def pixel_centers(height: int, width: int, step: int = 1) -> np.ndarray:
    """The places of the pixels of an image of height x width, every `step`th: float64 (h, w, 2)."""
    return np.stack(np.meshgrid(*(np.arange(0.0, n, step) for n in (height, width)), indexing="ij"), axis=-1)


def read_at(images: Any, places: Tensor, padding: str = "border") -> Any:
    """Images read at places by bilinear interpolation. Differentiable in both.

    images: (N, H, W, C), or (1, H, W, C) to be read at all places; a Tensor or an array. places: (N, h, w, 2). padding:
    what surrounds an image, 'border' (its outermost pixels) or 'zeros'. Returns (N, h, w, C) of the dtype of places.
    """
    check_float("read_at", places=places)
    check_ndim("read_at", "places", places, 4, "(N, h, w, 2)")
    images = _as_constant(images, places)
    if len(images) not in (1, len(places)):
        raise ValueError(f"read_at: there are {len(images)} images and {len(places)} sets of places; need equally many")
    one_grid = places.reshape(len(images), -1, *places.shape[2:])  # of a single image, all places are one grid
    return sampled("read_at", images, one_grid, padding).reshape(*places.shape[:3], images.shape[3])


# ---------------------------------------------------------------------------------------- measures
# Each takes fixed images (N, H, W, C) or (1, H, W, C) and moving images (N, H, W, C), and returns (N,): the higher, the
# better they fit.
def squared_difference(fixed: Tensor, moving: Tensor) -> Any:
    """SSD, negative, mean over the pixels: high if equal places have equal gray levels."""
    return -((fixed - moving) ** 2).mean(axis=PIXELS)


def correlation(fixed: Tensor, moving: Tensor) -> Any:
    """Normalized cross-correlation: 1 if the gray levels of one image are a linear function of those of the other."""
    f, m = (x - x.mean(axis=PIXELS, keepdims=True) for x in (fixed, moving))
    return (f * m).mean(axis=PIXELS) / sqrt((f * f).mean(axis=PIXELS) * (m * m).mean(axis=PIXELS) + 1e-12)


def mutual_information(fixed: Tensor, moving: Tensor, bins: int = 17, values: tuple[float, float] = (-2.0, 4.0)) -> Any:
    """Mutual information in nats: high if the gray levels of one image predict those of the other, in any way.

    bins: of the histogram, centered from values[0] to values[1]. Neighboring bins share each pixel by a Gaussian, so
    that the histogram has a gradient (Parzen windows).
    Source: Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22, 2003.
    """
    xp = array_module(fixed.data)
    centers, width = xp.linspace(*values, bins).astype(fixed.dtype), (values[1] - values[0]) / (bins - 1)
    shares = []
    for x in (fixed, moving):
        weight = exp(-2 * ((x.reshape(len(x), -1, 1) - centers) / width) ** 2) + 1e-12  # far outside, all bins share
        shares.append(weight / weight.sum(axis=2, keepdims=True))
    joint = matmul(shares[0].swapaxes(1, 2), shares[1]) / shares[0].shape[1]
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    return (joint * (log(joint + 1e-12) - log(independent + 1e-12))).sum(axis=(1, 2))
