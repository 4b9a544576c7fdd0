"""Augmentation of an image together with its labels.

Each augmentation is called as `image, labels = augmentation(image, labels, rng)`: `image` (H, W, C) float32, about
0 (dark) to 1 (bright); `labels` (H, W) int32, or None. Whatever moves pixels moves both by the same map, the image by
linear interpolation, the labels by taking the nearest pixel, since there is nothing between nucleus 3 and nucleus 5.
What changes intensities leaves the labels alone. All randomness comes from `rng`: same generator, same picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Pair = tuple[np.ndarray, np.ndarray | None]


class Compose:
    """One augmentation after another."""

    def __init__(self, steps: Sequence[Callable[..., Pair]]):
        self.steps = list(steps)

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        for step in self.steps:
            image, labels = step(image, labels, rng)
        return image, labels


def linear_map(
    angle: float = 0.0, zoom: tuple[float, float] = (1.0, 1.0), shear: float = 0.0, flip: bool = False
) -> np.ndarray:
    """The 2 x 2 matrix, for (row, column) vectors, that takes a place in the result to its place in the source.

    A warp is computed backwards: every pixel of the result asks where it comes from. So things look `zoom` times as
    large because the matrix divides by it. `angle` in radians, `shear` columns per row, `flip` mirrors columns.
    """
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = np.array([[1.0, 0.0], [shear, 1.0]])
    mirror = np.diag([1.0, -1.0 if flip else 1.0])
    return rotation @ slant @ mirror @ np.diag([1 / zoom[0], 1 / zoom[1]])


def warp(
    array: np.ndarray, matrix: np.ndarray, center: np.ndarray | Sequence[float], shape: tuple[int, int], order: int
) -> np.ndarray:
    """Sample `array` so that the middle of the result shows the place `center` (row, column) of the source.

    `array` (H, W) or (H, W, C); the result has `shape` for H and W, its channels, and its dtype for `order` 0
    (nearest pixel: labels) or float32 for `order` 1 (linear: images). Beyond the edge the source is mirrored at
    it: a black corner would teach the net that pictures have black corners.
    """
    middle = (np.asarray(shape) - 1) / 2
    offset = np.asarray(center) - matrix @ middle
    dtype = array.dtype if order == 0 else np.float32
    if array.ndim == 2:
        return ndimage.affine_transform(array, matrix, offset, shape, dtype, order, mode="reflect")
    result = np.empty((*shape, array.shape[2]), dtype)
    for channel in range(array.shape[2]):
        plane = array[:, :, channel]
        result[:, :, channel] = ndimage.affine_transform(plane, matrix, offset, shape, dtype, order, mode="reflect")
    return result


@dataclass
class Affine:
    """Shift, rotation, shear, zoom, rescale and flip in a single warp, so that the image is interpolated only once.

    `shift` at most this fraction of height and width; `rotation` at most this angle in degrees, either way; `shear`
    at most this many columns per row; `zoom` at most this factor, larger or smaller; `rescale` the same for height
    and width separately, which changes proportions; `flip` mirrors every other image.
    """

    shift: float = 0.1
    rotation: float = 180.0
    shear: float = 0.1
    zoom: float = 1.25
    rescale: float = 1.1
    flip: bool = True

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        shape = np.array(image.shape[:2])
        center = (shape - 1) / 2 + rng.uniform(-self.shift, self.shift, 2) * shape
        zoom = self.zoom ** rng.uniform(-1, 1) * self.rescale ** rng.uniform(-1, 1, 2)
        matrix = linear_map(
            angle=np.deg2rad(rng.uniform(-self.rotation, self.rotation)),
            zoom=tuple(zoom),
            shear=rng.uniform(-self.shear, self.shear),
            flip=self.flip and rng.random() < 0.5,
        )
        size = image.shape[:2]
        moved = None if labels is None else warp(labels, matrix, center, size, order=0)
        return warp(image, matrix, center, size, order=1), moved


@dataclass
class BrightnessContrast:
    """Contrast times exp(contrast N), brightness plus brightness N, where N are standard normal numbers.

    `channels` is how much each channel varies on its own, as a fraction of that: stains differ in color, too.
    """

    brightness: float = 0.05
    contrast: float = 0.15
    channels: float = 0.3

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        spread = rng.standard_normal(2) + self.channels * rng.standard_normal((image.shape[2], 2))
        gain = np.exp(self.contrast * spread[:, 0]).astype(image.dtype)
        lift = (self.brightness * spread[:, 1]).astype(image.dtype)
        return image * gain + lift, labels


@dataclass
class Stain:
    """The colors of another laboratory: channels in random order, saturation times a number from [0, saturation].

    A net that has seen few stains would otherwise take their colors for what makes a nucleus. A gray image, of one
    channel or three equal ones, stays as it is.
    """

    saturation: float = 1.2
    probability: float = 0.5

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        if rng.random() >= self.probability:
            return image, labels
        gray = image.mean(axis=2, keepdims=True)
        color = (image - gray)[:, :, rng.permutation(image.shape[2])]
        return gray + color * image.dtype.type(rng.uniform(0, self.saturation)), labels


@dataclass
class Invert:
    """Dark becomes bright: 1 - image, with this probability."""

    probability: float = 0.5

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        return (1 - image if rng.random() < self.probability else image), labels


@dataclass
class GaussianNoise:
    """Adds Gaussian noise, the same in all channels, of a standard deviation drawn from [0, sigma]."""

    sigma: float = 0.05
    probability: float = 0.3

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        if rng.random() >= self.probability:
            return image, labels
        noise = rng.standard_normal((*image.shape[:2], 1), dtype=np.float32) * rng.uniform(0, self.sigma)
        return image + noise.astype(image.dtype), labels


@dataclass
class GaussianBlur:
    """Blurs by a Gaussian of a width drawn from [0, sigma] pixels, as a lens out of focus does."""

    sigma: float = 1.2
    probability: float = 0.2

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        if rng.random() >= self.probability:
            return image, labels
        width = rng.uniform(0, self.sigma)
        return ndimage.gaussian_filter(image, (width, width, 0)), labels
