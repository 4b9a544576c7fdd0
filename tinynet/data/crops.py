"""The training set: random crops of nuclei images, with the target maps of the net."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..errors import DataError
from ..imaging.instances import median_diameter
from ..imaging.intensity import normalization
from ..imaging.segment import DIAMETER, SCALE_LIMITS
from .augment import BrightnessContrast, Compose, GaussianBlur, GaussianNoise, Stain, linear_map, warp
from .maps import binary_map, border_map, distance_map
from .nuclei import Sample

# How often each kind of image is drawn. The kinds besides fluorescence are rare in the data but harder, so they are
# drawn more often than they occur.
KIND_WEIGHTS = {"fluorescence": 0.68, "histology": 0.24, "brightfield": 0.08}
NEAR_A_NUCLEUS = 0.6  # the fraction of crops whose center lies near a nucleus; the others lie anywhere
# The scale is multiplied by exp(spread N(0, 1)), because prediction only estimates it. In an image with many nuclei its
# error is small in the end, but the guesses that it starts from may be far off.
SMALL_SPREAD, LARGE_SPREAD = 0.12, 0.35
SHEAR = 0.1
INTENSITY = Compose([Stain(), BrightnessContrast(), GaussianBlur(), GaussianNoise()])


class NucleiCrops:
    """Random crops, for `DataLoader`: `item(index, rng)` gives (image, target).

    image (size, size, 3) float32, normalized like its whole image (`normalize`); target (size, size, heads) float32 as
    in `maps.targets`. Each call draws a new crop: first the kind of image by `KIND_WEIGHTS`, then an image of this kind
    by 1 / sqrt(size of its group), because ninety images of one experiment teach less than ninety times as much as one,
    then a position.

    With `target_diameter` None the resolution does not change, and crops are rotated by right angles only, so pixels
    are not interpolated. A number of pixels brings every image to one nucleus size: one affine map (scale, any
    rotation, flip, a little shear) samples the crop from the image, with the scale target_diameter / (median diameter
    of the image's nuclei) * exp(spread N(0, 1)). The spread is `SMALL_SPREAD` in the fraction `steady` of all crops,
    and `LARGE_SPREAD` in the others.

    Raises `DataError` without samples or for a sample without labels, and `ValueError` for a wrong setting.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: int = 128,
        crops_per_epoch: int = 2000,
        heads: int = 3,
        target_diameter: float | None = DIAMETER,
        steady: float = 0.0,
    ) -> None:
        if not samples:
            raise DataError("NucleiCrops: no samples; need at least one")
        if heads not in (1, 3):
            raise ValueError(f"NucleiCrops: heads {heads}; need 1 (mask) or 3 (mask, border, distance)")
        for name, value in (("size", size), ("crops_per_epoch", crops_per_epoch)):
            if value < 1:
                raise ValueError(f"NucleiCrops: {name} is {value}; at least 1 is needed")
        self.size, self.crops_per_epoch = size, crops_per_epoch
        if not 0 <= steady <= 1:
            raise ValueError(f"NucleiCrops: steady is {steady}; a fraction, 0 to 1, is needed")
        self.heads, self.target_diameter, self.steady = heads, target_diameter, steady
        self._sources = [_Source(sample, heads) for sample in samples]
        self._chances = np.cumsum(_sampling_weights(samples))

    def __len__(self) -> int:
        return self.crops_per_epoch

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One crop. `rng` decides everything; the index is not used."""
        number = int(np.searchsorted(self._chances, rng.random() * self._chances[-1], side="right"))
        source = self._sources[min(number, len(self._sources) - 1)]
        scale, matrix = self._draw_map(source, rng)
        center = self._draw_center(source, scale, rng)
        shape = (self.size, self.size)

        image = source.crop_image(matrix, center, shape, scale)
        image, _ = INTENSITY(image, None, rng)
        labels = warp(source.labels, matrix, center, shape, order=0)
        maps = [binary_map(labels)]
        if self.heads == 3:
            # The distance is relative to the depth of each nucleus, so a warped distance map is still right.
            distance = warp(source.distance, matrix, center, shape, order=1) / 255
            maps += [border_map(labels), distance * maps[0]]
        image = np.ascontiguousarray(np.broadcast_to(np.clip(image, -0.5, 2.0), (*shape, 3)))
        return image, np.stack(maps, axis=2)

    def _draw_map(self, source: _Source, rng: np.random.Generator) -> tuple[float, np.ndarray]:
        """Draw (scale, the matrix of `linear_map`) for one crop."""
        flip = rng.random() < 0.5
        if self.target_diameter is None:
            return 1.0, np.rint(linear_map(angle=np.pi / 2 * rng.integers(4), flip=flip))
        true_scale = 1.0 if np.isnan(source.diameter) else self.target_diameter / source.diameter
        spread = SMALL_SPREAD if self.steady and rng.random() < self.steady else LARGE_SPREAD
        scale = float(np.clip(true_scale * np.exp(spread * rng.standard_normal()), *SCALE_LIMITS))
        angle, shear = rng.uniform(0, 2 * np.pi), rng.uniform(-SHEAR, SHEAR)
        return scale, linear_map(angle, (scale, scale), shear, flip)

    def _draw_center(self, source: _Source, scale: float, rng: np.random.Generator) -> np.ndarray:
        """The position of the crop's middle in the image. If the unrotated crop fits, it lies inside the image."""
        extent = np.array(source.labels.shape)
        half = np.minimum(self.size / scale, extent) / 2
        if len(source.nuclei) and rng.random() < NEAR_A_NUCLEUS:
            center = source.nuclei[rng.integers(len(source.nuclei))] + rng.uniform(-0.25, 0.25, 2) * self.size / scale
        else:
            center = rng.uniform(0, 1, 2) * extent
        # So far positions are those of pixel corners; from here on, of pixel centers.
        first_corner = np.clip(center, half, extent - half) - self.size / 2
        return np.floor(first_corner) + (self.size - 1) / 2


class _Source:
    """One image prepared for cropping: everything that its crops share."""

    def __init__(self, sample: Sample, heads: int) -> None:
        if sample.labels is None:
            raise DataError(f"NucleiCrops: image {sample.id} has no labels; need them to train")
        self.labels = sample.labels
        self.slope, self.offset = normalization(sample.image)
        self.diameter = median_diameter(sample.labels)
        self.nuclei = _centers(sample.labels)
        if heads == 3:
            self.distance = np.rint(distance_map(sample.labels) * 255).astype(np.uint8)
        is_gray = (sample.image == sample.image[:, :, :1]).all()
        # Each level has half the size, each pixel the mean of four: `warp` alone would skip pixels when it reduces
        # more.
        levels = [Image.fromarray(sample.image[:, :, 0] if is_gray else sample.image)]
        while min(levels[-1].size) >= 64 and len(levels) <= 3:
            levels.append(levels[-1].reduce(2))
        self.pyramid = [np.asarray(level) for level in levels]

    def crop_image(self, matrix: np.ndarray, center: np.ndarray, shape: tuple[int, int], scale: float) -> np.ndarray:
        """The normalized crop from the level of the pyramid that is nearest in scale.

        (*shape, 3) float32, or (*shape, 1) for a gray image, which therefore stays gray in every augmentation.
        """
        level = int(np.clip(round(-np.log2(scale)), 0, len(self.pyramid) - 1))
        factor = 2**level
        center = (center + 0.5) / factor - 0.5  # pixel centers lie half a pixel from the corner at every level
        crop = warp(self.pyramid[level], matrix / factor, center, shape, order=1)
        return np.atleast_3d(crop) * self.slope + self.offset


def _centers(labels: np.ndarray) -> np.ndarray:
    """The middles of the nuclei's bounding boxes, (n, 2), row and column."""
    from scipy.ndimage import find_objects

    boxes = [box for box in find_objects(labels) if box is not None]
    return np.array([[(side.start + side.stop) / 2 for side in box] for box in boxes]).reshape(-1, 2)


def _sampling_weights(samples: Sequence[Sample]) -> np.ndarray:
    """The weight of each image in the draw."""
    group_sizes = Counter(sample.group for sample in samples)
    weights = np.array([group_sizes[sample.group] ** -0.5 for sample in samples])
    kinds = np.array([sample.kind for sample in samples])
    for kind in set(kinds):
        weights[kinds == kind] *= KIND_WEIGHTS[kind] / weights[kinds == kind].sum()
    return weights
