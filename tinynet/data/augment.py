"""Augmentation of an image together with its labels.

Call an augmentation as `image, labels = augmentation(image, labels, rng)`: `image` (H, W, C) float32, about 0 (dark) to
1 (bright); `labels` (H, W) int32, or None. An augmentation that moves pixels uses the same map for both: linear
interpolation for the image, the nearest pixel for the labels, because there is no nucleus 4 between nucleus 3 and
nucleus 5. Changes of the intensities do not affect the labels. Images of integers are a TypeError. All
randomness comes from `rng`: the same generator gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Pair = tuple[np.ndarray, np.ndarray | None]


def _check_image(step: object, image: np.ndarray) -> None:
    """Integers 0 .. 255 would pass through most steps, and come out wrong."""
    if image.ndim != 3 or image.dtype.kind != "f":
        raise TypeError(
            f"{type(step).__name__}: image has shape {image.shape} and dtype {image.dtype}; floats of about 0 to 1, "
            "(H, W, C), are needed: divide 8-bit images by 255"
        )


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
    """The 2 x 2 matrix, for (row, column) vectors, that maps a position in the result to its position in the source.

    `warp` computes backwards, from each pixel of the result to its source. So the matrix divides by `zoom`, and objects
    look `zoom` times as large. `angle` in radians, `shear` in columns per row, `flip` mirrors the columns.
    """
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = np.array([[1.0, 0.0], [shear, 1.0]])
    mirror = np.diag([1.0, -1.0 if flip else 1.0])
    return rotation @ slant @ mirror @ np.diag([1 / zoom[0], 1 / zoom[1]])


def warp(
    array: np.ndarray, matrix: np.ndarray, center: np.ndarray | Sequence[float], shape: tuple[int, int], order: int
) -> np.ndarray:
    """Sample `array` so that the middle of the result shows the position `center` (row, column) of the source.

    `array` (H, W) or (H, W, C). The result has `shape` for H and W and the same channels. `order` 0 takes the nearest
    pixel and keeps the dtype (labels); `order` 1 interpolates linearly and gives float32 (images). Beyond its edge the
    source is mirrored: from black corners a net would learn that images have black corners.
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

    Each is drawn up to a limit: `shift` is a fraction of height and width; `rotation` an angle in degrees, in both
    directions; `shear` in columns per row; `zoom` a factor, larger or smaller; `rescale` a factor for height and for
    width separately, which changes proportions. `flip` mirrors half of the images.
    """

    shift: float = 0.1
    rotation: float = 180.0
    shear: float = 0.1
    zoom: float = 1.25
    rescale: float = 1.1
    flip: bool = True

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        _check_image(self, image)
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
    """Contrast times exp(contrast N), brightness plus brightness N, where each N is a standard normal number.

    `channels`: how much each channel varies on its own, as a fraction of these, because stains differ in color too.
    """

    brightness: float = 0.05
    contrast: float = 0.15
    channels: float = 0.3

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        _check_image(self, image)
        change = rng.standard_normal(2) + self.channels * rng.standard_normal((image.shape[2], 2))
        gain = np.exp(self.contrast * change[:, 0]).astype(image.dtype)
        lift = (self.brightness * change[:, 1]).astype(image.dtype)
        return image * gain + lift, labels


class _Sometimes:
    """Base class of changes of the intensities that happen with a probability. A subclass writes `change`."""

    probability: float

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator) -> Pair:
        _check_image(self, image)
        return (self.change(image, rng) if rng.random() < self.probability else image), labels

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError


@dataclass
class Stain(_Sometimes):
    """The colors of another laboratory: channels in random order, saturation times a number from [0, saturation].

    Without this, a net that has seen few stains takes their colors as the mark of a nucleus. A gray image, of one
    channel or three equal channels, does not change.
    """

    saturation: float = 1.2
    probability: float = 0.5

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        gray = image.mean(axis=2, keepdims=True)
        color = (image - gray)[:, :, rng.permutation(image.shape[2])]
        return gray + color * image.dtype.type(rng.uniform(0, self.saturation))


@dataclass
class Invert(_Sometimes):
    """Dark becomes bright: 1 - image."""

    probability: float = 0.5

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return 1 - image


@dataclass
class GaussianNoise(_Sometimes):
    """Adds Gaussian noise, the same in all channels. The standard deviation is drawn from [0, sigma]."""

    sigma: float = 0.05
    probability: float = 0.3

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal((*image.shape[:2], 1), dtype=np.float32) * rng.uniform(0, self.sigma)
        return image + noise.astype(image.dtype)


@dataclass
class GaussianBlur(_Sometimes):
    """Blurs by a Gaussian with a width drawn from [0, sigma] pixels, like a lens out of focus."""

    sigma: float = 1.2
    probability: float = 0.2

    def change(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        width = rng.uniform(0, self.sigma)
        return ndimage.gaussian_filter(image, (width, width, 0))


def mirrored(image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, ...) and its boxes (K, 4), mirrored left to right and top to bottom, each in half of the calls.

    boxes: (y1, x1, y2, x2), edges in pixels as in `tinynet.boxes`. The arrays may be views of the given ones.
    """
    for axis, size in enumerate(image.shape[:2]):
        if rng.random() < 0.5:
            image, boxes = np.flip(image, axis), boxes.copy()
            boxes[:, [axis, axis + 2]] = size - boxes[:, [axis + 2, axis]]  # the lower edge becomes the upper one
    return image, boxes
