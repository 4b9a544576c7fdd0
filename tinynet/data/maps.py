"""From a label image to the targets of a network: mask, touching borders, distance to the outside.

A label image (H, W) holds 0 for background and a positive number for each nucleus.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..imaging.checks import check_labels

BORDER_WINDOW = 5  # pixels; two nuclei inside one window of this size touch


def binary_map(labels: np.ndarray) -> np.ndarray:
    """1 inside nuclei, 0 outside: (H, W) labels to (H, W) float32."""
    return (labels > 0).astype(np.float32)


def border_map(labels: np.ndarray) -> np.ndarray:
    """1 where a 5 x 5 window holds two different nuclei, else 0: (H, W) labels to (H, W) float32.

    A network that predicts this border, background between nuclei included, can separate nuclei that touch (after the
    separation border of Ronneberger et al., U-Net, 2015, section 3, here as a class of its own).
    """
    # A window holds two nuclei if and only if its largest and its smallest number differ, without the background.
    labels = labels.astype(np.int32, copy=False)
    nothing = np.iinfo(np.int32).max
    largest = ndimage.maximum_filter(labels, BORDER_WINDOW, mode="nearest")
    smallest = ndimage.minimum_filter(np.where(labels > 0, labels, nothing), BORDER_WINDOW, mode="nearest")
    return ((largest > smallest) & (smallest < nothing)).astype(np.float32)


def distance_map(labels: np.ndarray) -> np.ndarray:
    """Depth inside the nucleus: (H, W) labels to (H, W) float32, 0 outside, 1 at each nucleus's deepest pixel.

    Euclidean distance to the nearest pixel outside the nucleus (a touching neighbor is outside too), divided by its
    maximum in this nucleus. Pixels beyond the edge of the image do not count.
    """
    depth = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:  # no nucleus of this number
            continue
        box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)  # with one pixel of the outside
        inside = labels[box] == number
        if inside.all():  # the nucleus fills the image
            depth[box] = 1
            continue
        distance = ndimage.distance_transform_edt(inside)
        depth[box][inside] = (distance / distance.max())[inside]
    return depth


def targets(labels: np.ndarray, heads: int) -> np.ndarray:
    """The targets of a net with this many outputs: (H, W) labels to (H, W, heads) float32.

    `heads` 1: the mask. 3: mask, touching border, distance. Raises `ValueError` for another number, and as
    `check_labels` if `labels` is not a label image.
    """
    labels = check_labels("targets", "labels", labels)
    if heads == 1:
        return binary_map(labels)[:, :, None]
    if heads == 3:
        return np.stack([binary_map(labels), border_map(labels), distance_map(labels)], axis=2)
    raise ValueError(f"targets: heads {heads}; need 1 (mask) or 3 (mask, border, distance)")
