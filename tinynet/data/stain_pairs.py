"""Pairs of stained slices for registration: both as reduced images, their landmarks, and patches that fit or do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..imaging.registration import best_affine, best_rigid, moved, pixel_centers
from .histology import StainedSlice, common_landmarks

PATCH = 30  # height and width of a patch in pixels of the reduced image
SHIFTS = (4.0, 24.0)  # of the second patch of a negative, in pixels of the reduced image
TURN = 0.15  # radians: it is rotated by at most so much


@dataclass
class StainPair:
    """Two slices reduced by a factor; all places and lengths are in pixels of the original images.

    slices: the fixed and the moving slice. fixed, moving: their `darkness`, float32 (h, w, 1). landmarks: their places
    (L, 2).
    """

    slices: tuple[StainedSlice, StainedSlice]
    fixed: np.ndarray
    moving: np.ndarray
    factor: int
    landmarks: tuple[np.ndarray, np.ndarray]

    @property
    def center(self) -> np.ndarray:
        """The middle of the fixed image, about which transforms rotate: (2,)."""
        return (np.array(self.slices[0].image.shape[:2]) - 1) / 2

    @property
    def best(self) -> np.ndarray:
        """The rigid transform of the landmarks with the least squared error, (1, 3) as in `tn.registration.rigid`."""
        return best_rigid(*self.landmarks, self.center)

    def errors(self, p: np.ndarray) -> np.ndarray:
        """Mean distance of the transformed landmarks from those of the moving slice, of transforms (N, 3): (N,)."""
        found = moved(p, self.landmarks[0], self.center)
        return np.linalg.norm(found - self.landmarks[1], axis=2).mean(axis=1)

    def places(self, margin: int) -> np.ndarray:
        """The centers of the pixels of the reduced fixed image, without `margin` of them at each side: (h, w, 2)."""
        height, width, _ = self.fixed.shape
        places = pixel_centers(height, width)[margin : height - margin, margin : width - margin]
        return places * self.factor + (self.factor - 1) / 2

    def reduced(self, places: Any) -> Any:
        """Places of the original in pixels of the reduced image. Works for Tensors, too."""
        return (places - (self.factor - 1) / 2) / self.factor

    def patches(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Random patches: (float32 (count, PATCH, PATCH, 2), labels float32 (count,)). Every other one fits: label 1.

        The two images of a patch that fits show the same place by the affine map of the landmarks. Otherwise the second
        one is shifted by SHIFTS and rotated. All patches are rotated, mirrored and scaled at random, and their contrast
        changes; in half of the calls the two images are exchanged.
        """
        from scipy import ndimage

        fits = np.arange(count) % 2 == 0
        offsets = (pixel_centers(PATCH, PATCH) - (PATCH - 1) / 2).reshape(-1, 2) * self.factor
        mirror, zoom = rng.choice((-1, 1), (count, 1, 1)), rng.uniform(0.85, 1.2, (count, 1, 1))
        offsets = offsets * np.concatenate([zoom, zoom * mirror], axis=2)
        half, far = PATCH * self.factor / 2, 2 * self.center + 1
        centers, turns = rng.uniform(half, far - half, (count, 2)), rng.uniform(0, 2 * np.pi, count)
        length = self.factor * np.exp(rng.uniform(np.log(SHIFTS[0]), np.log(SHIFTS[1]), count)) * ~fits
        direction = rng.uniform(0, 2 * np.pi, count)
        shifts = length[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)
        first = moved(np.c_[turns, centers], offsets, 0)
        second = moved(np.c_[turns + rng.uniform(-TURN, TURN, count) * ~fits, centers + shifts], offsets, 0)
        matrix = best_affine(*self.landmarks)
        both = [
            ndimage.map_coordinates(image[:, :, 0], np.moveaxis(self.reduced(places), 2, 0), order=1, mode="nearest")
            for image, places in ((self.fixed, first), (self.moving, second @ matrix[:2] + matrix[2]))
        ]
        x = np.stack(both if rng.random() < 0.5 else both[::-1], axis=2).reshape(count, PATCH, PATCH, 2)
        x = x * rng.uniform(0.6, 1.4, (count, 1, 1, 2)) + rng.normal(0, 0.2, (count, 1, 1, 2))
        return x.astype(np.float32), fits.astype(np.float32)


def stain_pair(fixed: StainedSlice, moving: StainedSlice, factor: int) -> StainPair:
    """Two slices, reduced by a factor. Raises DataError if they share fewer than three landmarks."""
    images = (darkness(fixed.image, factor), darkness(moving.image, factor))
    return StainPair((fixed, moving), *images, factor, common_landmarks(fixed, moving))


def darkness(image: np.ndarray, factor: int) -> np.ndarray:
    """An image reduced by a factor: means of factor x factor pixels, dark is high, mean 0 and standard deviation 1.

    image: uint8 (H, W, 3). Returns float32 (H // factor, W // factor, 1).
    """
    height, width = (size // factor for size in image.shape[:2])
    dark = 255 - image[: height * factor, : width * factor].astype(np.float32).mean(axis=2)
    small = dark.reshape(height, factor, width, factor).mean(axis=(1, 3))
    return ((small - small.mean()) / (small.std() + 1e-6))[:, :, None]
