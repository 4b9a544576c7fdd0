"""From an image to its nuclei in one call: `segment`. `segment_many` does the same for several images at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import to_rgb8
from ..imaging import segment as imaging
from .net import Net, kept_net

Progress = Callable[[int, int], None]  # called with (tiles done, tiles in all)


@dataclass(frozen=True)
class Nuclei:
    """What was found in one image.

    labels: int32 (H, W), 0 background and 1, 2, ... the nuclei. diameter: the nucleus diameter, in pixels of the image,
    that was given or measured. doubt: why the result may be wrong, in a sentence, or "".
    """

    labels: np.ndarray
    diameter: float
    doubt: str


def segment(
    image: np.ndarray,
    diameter: float | None = None,
    flips: bool = True,
    min_area: float | None = None,
    exclude_border: bool = False,
    weights: str | Path | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Find the nuclei of a microscope image: a label image, int32 (H, W), 0 background and 1, 2, ... the nuclei."""
    return segment_many(kept_net(weights), [image], diameter, flips, min_area, exclude_border, progress)[0].labels


def segment_many(
    net: Net,
    images: Sequence[np.ndarray],
    diameter: float | None = None,
    flips: bool = True,
    min_area: float | None = None,
    exclude_border: bool = False,
    progress: Progress | None = None,
) -> list[Nuclei]:
    """The nuclei of several images, each as `segment` finds them alone; faster: the images share passes of the net."""
    found = []
    for image in images:
        pixels = to_rgb8(image)
        scale = imaging.DIAMETER / diameter if diameter else net.scale or imaging.estimate_scale(net, pixels)
        labels = imaging.segment(net, pixels, flips, scale)
        doubt = "" if net.scale else imaging.doubt(labels, scale)
        found.append(Nuclei(labels, imaging.DIAMETER / scale, doubt))
    return found
