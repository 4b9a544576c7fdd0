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


def micrometers(length: float, unit: str) -> float | None:
    """A length in micrometers; None if the unit is no length, or the length no positive number.

    Also None for inches and centimeters that are not those of a microscope (`PLAUSIBLE`).
    """
    unit = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\u03bc", "µ").lower()
    unit = SPELLINGS.get(unit, unit)
    if unit not in MICROMETERS or not (math.isfinite(length) and length > 0):
        return None
    size = length * MICROMETERS[unit]
    return None if unit in ("inch", "cm") and not PLAUSIBLE[0] <= size <= PLAUSIBLE[1] else size


def square(x: float | None, y: float | None, where: str) -> float | None:
    """The size of a pixel from its width and height. If it is not square, a warning says so, and the size is None."""
    if x is None or y is None or abs(x - y) <= 0.01 * max(x, y):
        return x if y is not None else None
    warnings.warn(
        f"{where}: its pixels are not square, {x:g} x {y:g} micrometers, so its sizes are given in pixels only; "
        f"resample it to square pixels",
        stacklevel=2,
    )
    return None


def pixel_size_of_tags(page: Any, unit: str | None, where: str) -> float | None:
    """Micrometers per pixel from the tags XResolution and YResolution, as `square` gives them.

    `unit`: ImageJ's, in place of the tag ResolutionUnit. The tags count pixels per unit.
    """
    unit = unit or {2: "inch", 3: "cm"}.get(page.tags.valueof(296, 2), "")
    counts = [_fraction(page.tags.valueof(code)) for code in (282, 283)]
    x, y = (micrometers(1 / count, unit) if count > 0 else None for count in counts)
    return square(x, y, where)


def _fraction(value: Any) -> float:
    """The value of a tag of type RATIONAL, 0 if it is missing or makes no sense."""
    try:
        numerator, denominator = value
        return numerator / denominator
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
