"""How certain a net is of each nucleus that it found, and which nuclei are too uncertain to keep.

Not everything that a watershed cuts out of the maps is a nucleus: there are specks, fragments, and bridges between two
nuclei. Three numbers tell them apart: in a nucleus the net is sure of the mask, sees little border, and sees somewhere
that it is deep inside. A logistic regression makes a probability of them. It was fitted to training images by

    python -m tinynet.nuclei.fit_certainty stage1_train.zip
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .checks import check_labels, check_maps
from .instances import keep_numbers

WEIGHTS = (14.09, -5.21, 5.80)  # of the mean mask, the mean border and the largest distance
BIAS = -15.22
LEAST = 0.55  # nuclei of less certainty are dropped; chosen on the training images


def evidence(labels: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Mean of the mask, mean of the border and maximum of the distance, of each nucleus: (largest label, 3) float64.

    labels: integers (H, W). maps: (H, W, 3), mask, border and distance in [0, 1] as in `data.maps.targets`. The row of
    a label that does not occur is 0. Raises ValueError if the maps are of another size or not finite, and as
    `check_labels`.
    """
    labels = check_labels("evidence", "labels", labels)
    if check_maps("evidence", "maps", maps, (3,)).shape[:2] != labels.shape:
        raise ValueError(f"evidence: labels have shape {labels.shape}, maps {maps.shape}; they must be of one image")
    numbers = np.arange(1, labels.max() + 1)
    if numbers.size == 0:
        return np.zeros((0, 3))
    areas = np.maximum(1, np.bincount(labels.ravel()))
    mask, border = (np.bincount(labels.ravel(), maps[:, :, c].ravel()) / areas for c in (0, 1))
    depth = ndimage.maximum(maps[:, :, 2], labels, numbers)
    return np.stack([mask[1:], border[1:], depth], axis=1)


def certainty(labels: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The probability that each nucleus is one: (largest label,) in [0, 1]. Arguments as in `evidence`."""
    return 1 / (1 + np.exp(-(evidence(labels, maps) @ WEIGHTS + BIAS)))


def keep_certain(labels: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The nuclei with a certainty of at least `LEAST`, numbered 1, 2, ... in the same order: int32 (H, W)."""
    return keep_numbers(labels, np.concatenate([[False], certainty(labels, maps) >= LEAST]))
