"""The intensity of an image: its gray levels, and the common contrast that the nets are trained on."""

import numpy as np

from .checks import check_maps


def gray(image: np.ndarray) -> np.ndarray:
    """The mean of R, G and B: (H, W, 3) to (H, W) float32."""
    red, green, blue = np.moveaxis(image, 2, 0)  # adding whole planes is ten times as fast as .mean(axis=2)
    return (red.astype(np.float32) + green + blue) / 3


def normalize(image: np.ndarray) -> np.ndarray:
    """Bring an image to dark background and common contrast; do it to whole images, never to crops or tiles.

    Bright images (grey median above 127) are inverted; then all three channels are scaled by one line that sends the
    1st percentile of grey to 0 and the 99.7th to 1; the result is clipped to [-0.5, 2].

    `image` (H, W, 3), uint8 or float in [0, 255]; returns (H, W, 3) float32.
    Raises `ValueError` on another shape, an image without pixels, NaN or infinity.
    """
    slope, offset = normalization(image)
    return np.clip(image.astype(np.float32) * slope + offset, -0.5, 2.0)


def normalization(image: np.ndarray) -> tuple[float, float]:
    """The line of `normalize`, before clipping: (slope, offset), so that a crop can be scaled as its whole image."""
    levels = gray(check_maps("normalize", "image", image, (3,)))
    inverted = np.median(levels) > 127
    low, high = np.percentile(255 - levels if inverted else levels, [1, 99.7])
    slope = 1 / max(float(high - low), 1.0)  # a flat image stays flat: its rounding noise is not blown up
    return (-slope, (255 - float(low)) * slope) if inverted else (slope, -float(low) * slope)
