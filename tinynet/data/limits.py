"""What every reader of images checks: sizes against decompression bombs, and values."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ..errors import DataError

# Pillow raises above twice its own limit; the same limit applies to TIFF files, which tifffile reads.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)
# Of one decoded plane: 12,000 x 12,000 of 32 bits, or 13,000 x 13,000 RGB. A small file can claim and fill any memory.
MAX_BYTES = 576 * 2**20


def check_size(where: str, shape: tuple[int, ...], bits: int) -> None:
    """Raise `DataError` if an image (H, W, ...) of so many bits a sample is larger than the limits."""
    height, width = shape[:2]
    if height * width > MAX_PIXELS or math.prod(shape) * bits > MAX_BYTES * 8:
        raise DataError(
            f"{where}: {width} x {height} pixels of {math.prod(shape[2:]) * bits} bits, could be a decompression bomb; "
            f"at most {MAX_PIXELS:,} pixels and {MAX_BYTES:,} bytes; crop it or make it smaller"
        )


def check_values(values: np.ndarray, where: str) -> None:
    """Raise `DataError` if the dtype is not bool, integer or float, or if a value is NaN or infinite."""
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: values of dtype {values.dtype}; need bool, integers or floats")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise DataError(f"{where}: {bad} values are NaN or infinite; need finite numbers")
