"""The intensity of an image: its gray levels, and the normalization that the nets are trained on."""

import numpy as np

from .checks import check_maps


def gray(image: np.ndarray) -> np.ndarray:
    """The mean of R, G and B: (H, W, 3) to (H, W) float32."""
    red, green, blue = np.moveaxis(image, 2, 0)  # adding whole planes is ten times as fast as .mean(axis=2)
    return (red.astype(np.float32) + green + blue) / 3


def normalize(image: np.ndarray) -> np.ndarray:
    """Bring an image to a dark background and a common contrast. Normalize whole images, never crops or tiles.

    Bright images (gray median above 127) are inverted. Then one linear function scales all three channels: it maps the
    1st percentile of gray to 0 and the 99.7th to 1. The result is clipped to [-0.5, 2].

    `image` (H, W, 3), uint8 or float in [0, 255]; returns (H, W, 3) float32.
    Raises `ValueError` on another shape, an image without pixels, NaN or infinity.
    """
    slope, offset = normalization(image)
    return np.clip(image.astype(np.float32) * slope + offset, -0.5, 2.0)


def normalization(image: np.ndarray) -> tuple[float, float]:
    """(slope, offset) of the linear function in `normalize`, so that a crop can be scaled like its whole image."""
    levels = gray(check_maps("normalize", "image", image, (3,)))
    inverted = np.median(levels) > 127
    low, high = np.percentile(255 - levels if inverted else levels, [1, 99.7])
    slope = 1 / max(float(high - low), 1.0)  # at most 1, so that the rounding noise of a flat image is not amplified
    return (-slope, (255 - float(low)) * slope) if inverted else (slope, -float(low) * slope)
