"""What all contestants compute: the data and the settings. It imports no framework."""

from __future__ import annotations

import numpy as np

SEED = 0
LEARNING_RATE = 1e-3  # of Adam; its other settings are everybody's defaults
SMOOTH = 1.0  # added to numerator and denominator of the soft Dice loss


def check_counts(**counts: int) -> None:
    """Check flags that must be at least 1. Raises ValueError, which names the flag."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"--{name} is {count}; at least 1 is needed")


def check_sizes(size: int, **counts: int) -> None:
    """Check flags. size: of the images, which the U-Net must be able to take; counts: what must be at least 1.

    Raises ValueError, which names the flag.
    """
    check_counts(**counts)
    if size < 16 or size % 16:
        raise ValueError(f"--size is {size}; the U-Net halves it four times: a multiple of 16 is needed")


def images_and_masks(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise as images (N, H, W, 3) in [0, 1) and a fifth of the pixels as masks (N, H, W, 1), both float32.

    What is in the images does not change how long a step takes.
    """
    rng = np.random.default_rng(SEED)
    images = rng.random((batch, size, size, 3), dtype=np.float32)
    return images, (rng.random((batch, size, size, 1)) < 0.2).astype(np.float32)


# The nets of the lectures that `bench nets` trains, and what they see at a time (a row of pixels; 5 s of two leads).
BATCHES = {
    "lenet": (100, 28, 28, 1),
    "alexnet": (32, 112, 112, 1),
    "autoencoder": (128, 784),
    "lstm": (32, 600, 2),
}


def batch_of(net: str) -> tuple[np.ndarray, np.ndarray]:
    """(noise as the net's input, what it should make of it)."""
    rng = np.random.default_rng(SEED)
    x = rng.random(BATCHES[net], dtype=np.float32)
    targets = {
        "lenet": rng.integers(0, 10, len(x)),  # a class for each image
        "alexnet": rng.integers(0, 2, (len(x), 1)).astype(np.float32),  # yes or no
        "autoencoder": x,
        "lstm": rng.random((*x.shape[:2], 24), dtype=np.float32),  # 24 samples ahead, at each
    }
    return x, targets[net]
