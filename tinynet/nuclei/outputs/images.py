"""Label images that ImageJ and napari open, overlays that fit into any viewer, and thumbnails."""

from __future__ import annotations

import base64
import io
import os

import numpy as np
from PIL import Image
from tifffile import imwrite

from ...files import atomic_path
from ...imaging import viz
from ...imaging.checks import check_image, check_labels, check_same_size
from ...imaging.segment import resize_labels

OVERLAY_SIDE = 4096  # pixels: larger overlays need gigabytes, and many viewers do not open them
THUMBNAIL_SIDE = 160  # pixels
ROWS_AT_ONCE = 64  # of a shrunken image


def write_labels(path: str | os.PathLike, labels: np.ndarray, pixel_size: float | None = None) -> None:
    """Write a label image, integers (H, W), as a TIFF file with zlib compression.

    pixel_size: micrometers per pixel, which the file keeps. Up to 65,535 nuclei are uint16, in ImageJ's own variety of
    TIFF. ImageJ's variety has no uint32, so more nuclei go into a plain TIFF file: ImageJ reads it as 32-bit float
    values, which are exact up to 16 million nuclei; napari and scikit-image read uint32. The older file is replaced in
    one step. Raises OSError if the file cannot be written.
    """
    labels = check_labels("write_labels", "labels", labels)
    per_micrometer = None if pixel_size is None else (1 / pixel_size, 1 / pixel_size)
    with atomic_path(path) as temporary:
        if labels.max() < 2**16:
            metadata = {"axes": "YX"} if pixel_size is None else {"axes": "YX", "unit": "micron"}
            pixels = labels.astype(np.uint16)
            imwrite(temporary, pixels, imagej=True, metadata=metadata, resolution=per_micrometer, compression="zlib")
        else:
            per_cm = None if per_micrometer is None else (1e4 * per_micrometer[0], 1e4 * per_micrometer[1])
            unit = None if pixel_size is None else "CENTIMETER"
            pixels = labels.astype(np.uint32)
            imwrite(temporary, pixels, metadata=None, resolution=per_cm, resolutionunit=unit, compression="zlib")


def shrink(image: np.ndarray, labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its labels, both smaller by a whole number, so that no side is longer than `side` pixels.

    image: uint8 (H, W, 3); each pixel of the result is an average. labels: integers (H, W); each pixel of the result
    has the number of one pixel. A small image is returned as it is.
    """
    check_same_size("shrink", labels, image)
    factor = -(-max(image.shape[:2]) // side)
    if factor == 1:
        return image, labels
    step = factor * ROWS_AT_ONCE  # by strips: Pillow keeps a copy of what it reduces
    strips = (np.ascontiguousarray(image[top : top + step]) for top in range(0, image.shape[0], step))
    smaller = np.concatenate([np.asarray(Image.fromarray(strip).reduce(factor)) for strip in strips])
    return smaller, labels[::factor, ::factor]


def overlay_for_screen(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`viz.overlay` with no side longer than `OVERLAY_SIDE` pixels. Returns uint8 (h, w, 3)."""
    return viz.overlay(*shrink(check_image("overlay_for_screen", image), labels, OVERLAY_SIDE))


def thumbnail(image: np.ndarray, labels: np.ndarray) -> str:
    """A small overlay as a data URI (JPEG), about 6 kB; the longer side has at most `THUMBNAIL_SIDE` pixels."""
    image, labels = shrink(image, labels, 2 * THUMBNAIL_SIDE)
    scale = min(1.0, THUMBNAIL_SIDE / max(labels.shape))
    height, width = (max(1, round(n * scale)) for n in labels.shape)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    drawing = viz.overlay(np.asarray(small), resize_labels(labels, (height, width)))
    file = io.BytesIO()
    Image.fromarray(drawing).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
