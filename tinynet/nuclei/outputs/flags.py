"""What may be wrong with the nuclei found in an image: a few rules, each with a sentence for the summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BORDER_SHARE = 0.5  # of the nuclei
SMALL_DIAMETER = 8.0  # pixels
SATURATED_SHARE = 0.1  # of the nuclei: in an image whose contrast was stretched, single pixels have the largest value
# The largest values of cameras with 8, 10, 12, 14 and 16 bits. A camera of 12 bits fills only a part of uint16.
FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))


def flags(rows: Sequence[dict[str, Any]], doubt: str) -> list[dict[str, str]]:
    """The warnings about one image: a short "kind" and a sentence "text" for each.

    rows: the measurements of its nuclei, of `instances.measure`; doubt: of `nuclei.doubt`.
    """
    if not rows:
        return [{"kind": "nothing found", "text": doubt or "no nucleus was found"}]
    found = [("doubtful", doubt)] if doubt else []
    share = np.mean([row["touches_border"] for row in rows])
    if share >= BORDER_SHARE:
        found.append(("border", f"{100 * share:.0f} % of the nuclei touch the border of the image, which cuts them"))
    diameter = np.median([row["equivalent_diameter"] for row in rows])
    if diameter < SMALL_DIAMETER:
        found.append(("small", f"the nuclei are only {diameter:.1f} pixels wide: their areas and shapes are rough"))
    for channel in (key.removeprefix("max_") for key in rows[0] if key.startswith("max_")):
        share = _saturated_share([row[f"max_{channel}"] for row in rows])
        if share >= SATURATED_SHARE:
            text = (
                f"{channel}: {100 * share:.0f} % of the nuclei reach the largest possible value, which cuts intensities"
            )
            found.append(("saturated", text))
    return [{"kind": kind, "text": text} for kind, text in found]


def _saturated_share(highest: Sequence[float]) -> float:
    """The share of the nuclei whose largest value is the largest value that a camera can give.

    The camera's number of bits is taken from the values. Floats have no known largest value: 0.
    """
    largest = max(highest)
    if not isinstance(largest, int) or largest not in FULL_SCALES:
        return 0.0
    return highest.count(largest) / len(highest)
