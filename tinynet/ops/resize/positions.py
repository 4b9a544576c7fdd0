"""Where the elements of a resized axis lie among the old ones; the same for all tiers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MODES = ("linear", "nearest")


class Positions(NamedTuple):
    """Output j lies between the inputs lower[j] and lower[j] + 1, at distance fraction[j] from the first.

    lower: int64, never decreasing. fraction: float64, 0 <= fraction < 1; where it is 0, there is one input only.
    starts: outputs starts[i] .. starts[i + 1] - 1 have lower = i - 1, so that input i went into the outputs
    starts[i] .. starts[i + 2] - 1.
    """

    lower: np.ndarray
    fraction: np.ndarray
    starts: np.ndarray


def positions(n: int, m: int, mode: str) -> Positions:
    """n and m elements cover the same length, border to border: the center of j is at (j + 1/2) n / m - 1/2."""
    center = (np.arange(m) + 0.5) * (n / m) - 0.5
    if mode == "nearest":
        center = np.floor(center + 0.5)
    center = np.clip(center, 0, n - 1)  # beyond the last center there is nothing to interpolate with
    lower = np.floor(center).astype(np.int64)
    return Positions(lower, center - lower, np.searchsorted(lower, np.arange(-1, n + 1)))
