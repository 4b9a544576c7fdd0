"""Volumes made from one volume by random smooth displacements: something to register, where the answer exists."""

from __future__ import annotations

import dataclasses

import numpy as np

from .volumes import Volume


def deformed_volumes(volume: Volume, rng: np.random.Generator, count: int, shift: float = 3.0) -> list[Volume]:
    """`count` copies of a volume, each warped by a random smooth displacement and with noise of its own.

    shift: standard deviation of the displacement along each axis, in voxels. The displacement is noise, blurred by a
    Gaussian of 6 voxels. The added noise has a tenth of the image's standard deviation. The copies keep shape and
    spacing; labels are warped with the image (nearest neighbor). Their ids end with "copy 000" and so on.
    """
    from scipy import ndimage

    copies, places = [], np.indices(volume.image.shape).astype(np.float64)
    for number in range(count):
        blurred = np.stack([ndimage.gaussian_filter(rng.standard_normal(p.shape), 6, mode="nearest") for p in places])
        at = places + blurred * (shift / blurred.std())
        image = ndimage.map_coordinates(volume.image, at, order=1, mode="nearest")
        image += 0.1 * volume.image.std() * rng.standard_normal(image.shape).astype(np.float32)
        labels = volume.labels
        if labels is not None:
            labels = ndimage.map_coordinates(labels, at, order=0, mode="nearest")
        copies.append(dataclasses.replace(volume, id=f"{volume.id} copy {number:03d}", image=image, labels=labels))
    return copies
