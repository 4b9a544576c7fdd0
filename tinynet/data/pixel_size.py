"""The size of a pixel in micrometers, from what a TIFF file says about it."""

from __future__ import annotations

import math
import warnings
from typing import Any

MICROMETERS = {"pm": 1e-6, "å": 1e-4, "nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "inch": 25_400.0, "m": 1e6}
SPELLINGS = {"um": "µm", "micron": "µm", "microns": "µm", "micrometer": "µm", "micrometers": "µm", "micrometre": "µm"}
SPELLINGS |= {"nanometer": "nm", "nanometers": "nm", "millimeter": "mm", "inches": "inch", "in": "inch", "meter": "m"}
# Inches and centimeters are usually those of a screen, a printer or a scanner: 72 dpi is 353 micrometers, 4800 dpi 5.3.
PLAUSIBLE = (0.01, 5.0)


def pixel_size(x: float, y: float, unit: str, where: str) -> float | None:
    """Micrometers per pixel, from the width `x` and the height `y` of a pixel in `unit`.

    None if the unit is no length, if the size is no positive number, and if a size in inches or centimeters is not
    one of a microscope (`PLAUSIBLE`). If a pixel is not square, a warning says so, and the size is None.
    """
    unit = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\u03bc", "µ").lower()
    unit = SPELLINGS.get(unit, unit)
    factor = MICROMETERS.get(unit)
    if factor is None or not all(math.isfinite(length) and length > 0 for length in (x, y)):
        return None
    x, y = x * factor, y * factor
    if unit in ("inch", "cm") and not PLAUSIBLE[0] <= min(x, y) <= max(x, y) <= PLAUSIBLE[1]:
        return None
    if abs(x - y) > 0.01 * max(x, y):
        warnings.warn(
            f"{where}: its pixels are not square, {x:g} x {y:g} micrometers: its sizes are given in pixels only; "
            f"resample it to square pixels",
            stacklevel=2,
        )
        return None
    return x


def pixel_size_of_tags(page: Any, unit: str | None, where: str) -> float | None:
    """`pixel_size` from the tags XResolution and YResolution. `unit`: ImageJ's, in place of the tag ResolutionUnit."""
    unit = unit or {2: "inch", 3: "cm"}.get(page.tags.valueof(296, 2), "")
    x, y = (_pixels_per_unit(page.tags.valueof(code)) for code in (282, 283))
    return pixel_size(1 / x, 1 / y, unit, where) if x > 0 and y > 0 else None


def _pixels_per_unit(fraction: Any) -> float:
    """The value of a tag of type RATIONAL, 0 if it is missing or makes no sense."""
    try:
        numerator, denominator = fraction
        return numerator / denominator
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
