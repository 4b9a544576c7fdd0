"""What all contestants compute: the images, the masks and the settings. It imports no framework."""

from __future__ import annotations

import numpy as np

SEED = 0
LEARNING_RATE = 1e-3  # of Adam; its other settings are everybody's defaults
SMOOTH = 1.0  # added to numerator and denominator of the soft Dice loss


def images_and_masks(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise as images (N, H, W, 3) in [0, 1) and a fifth of the pixels as masks (N, H, W, 1), both float32.

    What is in the images does not change how long a step takes.
    """
    rng = np.random.default_rng(SEED)
    images = rng.random((batch, size, size, 3), dtype=np.float32)
    return images, (rng.random((batch, size, size, 1)) < 0.2).astype(np.float32)
