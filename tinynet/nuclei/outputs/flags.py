"""What may be wrong with the nuclei found in an image: a few rules, each with a sentence for the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .results import Result

BORDER_SHARE = 0.5  # of the nuclei
SMALL_DIAMETER = 8.0  # pixels
SATURATED_SHARE = 0.01  # of the pixels of nuclei
# The largest values of cameras with 8, 10, 12, 14 and 16 bits. A camera of 12 bits fills only a part of uint16.
FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))


def flags(result: Result, rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The doubts about one image: a short "kind" and a sentence "text" for each. rows: of `instances.measure`."""
    found = []
    if result.doubt:
        found.append(("size" if rows else "nothing found", result.doubt))
    elif not rows:
        found.append(("nothing found", "no nucleus was found"))
    if rows:
        share = np.mean([row["touches_border"] for row in rows])
        if share >= BORDER_SHARE:
            found.append(("border", f"{share:.0%} of the nuclei touch the border of the image: they are cut"))
        diameter = np.median([row["equivalent_diameter"] for row in rows])
        if diameter < SMALL_DIAMETER:
            found.append(("small", f"nuclei are only {diameter:.1f} pixels wide: shapes and areas are rough"))
    for name, share in saturated_shares(result.labels, result.plane.channels).items():
        if share > SATURATED_SHARE:
            found.append(("saturated", f"{name}: {share:.0%} of the nuclear pixels have the largest possible value"))
    return [{"kind": kind, "text": text} for kind, text in found]


def saturated_shares(labels: np.ndarray, channels: Mapping[str, np.ndarray]) -> dict[str, float]:
    """For each channel, the share of the nuclear pixels at the largest value that a camera can give.

    The camera's number of bits is taken from the channel's largest value. Channels of floats have no known largest
    value, so they are left out.
    """
    inside = labels > 0
    if not inside.any():
        return {}
    shares = {}
    for name, channel in channels.items():
        if channel.dtype.kind in "iu":
            highest = channel.max()
            shares[name] = float(np.mean(channel[inside] == highest)) if highest in FULL_SCALES else 0.0
    return shares
