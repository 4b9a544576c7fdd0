"""What all contestants compute: the images, the masks and the settings. It imports no framework."""

from __future__ import annotations

import numpy as np

SEED = 0
LEARNING_RATE = 1e-3  # of Adam; its other settings are everybody's defaults
SMOOTH = 1.0  # added to numerator and denominator of the soft Dice loss


def check_sizes(size: int, **counts: int) -> None:
    """Check flags. size: of the images, which the U-Net must be able to take; counts: what must be at least 1.

    Raises ValueError, which names the flag.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name} is {count}; at least 1 is needed")
    if size < 16 or size % 16:
        raise ValueError(f"--size is {size}; the U-Net halves it four times: a multiple of 16 is needed")


def images_and_masks(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise as images (N, H, W, 3) in [0, 1) and a fifth of the pixels as masks (N, H, W, 1), both float32.

    What is in the images does not change how long a step takes.
    """
    rng = np.random.default_rng(SEED)
    images = rng.random((batch, size, size, 3), dtype=np.float32)
    return images, (rng.random((batch, size, size, 1)) < 0.2).astype(np.float32)
