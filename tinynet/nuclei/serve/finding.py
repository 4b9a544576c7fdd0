"""The search for nuclei in images of the project. It runs in the one thread of `worker`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .project import StoredImage
from .worker import Worker


@dataclass(frozen=True)
class Search:
    """What the person chose. diameter, min_area: in pixels, None for the measured diameter and the default area.

    weights: the file of a trained net; None for the shipped weights.
    """

    diameter: float | None = None
    min_area: float | None = None
    exclude_border: bool = False
    flips: bool = False
    weights: Path | None = None


def find(images: Sequence[StoredImage], search: Search, worker: Worker) -> None:
    """Find the nuclei of each image. The result replaces the label image as an edit, so it can be undone."""
    from ..net import kept_net
    from ..segmentation import segment_many

    net = kept_net(search.weights)
    for place, image in enumerate(images):

        def progress(done: int, total: int, place: int = place, name: str = image.entry.name) -> None:
            worker.report(place + done / max(total, 1), len(images), f"{name} ({place + 1} of {len(images)})")

        progress(0, 1)
        (found,) = segment_many(
            net,
            [image.pixels()],
            search.diameter,
            search.flips,
            search.min_area,
            search.exclude_border,
            progress=progress,
        )
        changes = {"diameter": found.diameter, "doubt": found.doubt, "searched": True, "corrected": False}
        image.replace(found.labels, **changes)
        image.busy = False
