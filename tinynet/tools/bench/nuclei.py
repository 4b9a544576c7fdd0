"""`bench nuclei`: how fast `tinynet.nuclei` finds nuclei in real images, and the memory that it takes.

The images are crops of the example that comes with tinynet, turned and mirrored, so that each is another image. Time
includes everything from the array to the label image, the estimate of the nucleus size included.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

import tinynet as tn

from ..cli import option
from . import machine
from .examples import check_counts
from .report import write_json

SIZE = 256
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gray8": lambda image: image[:, :, 0],
    "gray16": lambda image: image[:, :, 0].astype(np.uint16) * 200,
    "rgb": lambda image: image,
}


@dataclass
class NucleiConfig:
    """The flags of `bench nuclei`."""

    turns: int = option(5, "times that each case is measured; the median counts")
    images: int = option(16, "images of 256 x 256 that share passes of the net, beside one alone")
    large: int | None = option(None, "instead of those: height and width of one large image, e.g. 12000, measured once")
    kind: str = option("gray8", "values of the large image", choices=tuple(KINDS))
    json: str | None = option(None, "file to write the machine and all figures to")

    def __post_init__(self) -> None:
        check_counts(turns=self.turns, images=self.images, large=1 if self.large is None else self.large)


def nuclei(config: NucleiConfig) -> list[dict[str, Any]]:
    """Images per second with `tinynet.nuclei.segment_many`, one and several at once; or one image of any size."""
    print(f"{machine.processor()}; {len(machine.cores())} cores")
    print("images          size flips images/s  s/image CPU s/image  peak MB nuclei")
    net = tn.nuclei.load_net()
    rows = [_row(net, *case) for case in _cases(config)]
    if config.json:
        write_json(config.json, {"machine": machine.describe(), "rows": rows})
    return rows


def crops(count: int) -> list[np.ndarray]:
    """So many different images (256, 256, 3) uint8 of real nuclei."""
    image = tn.data.example_nuclei().image
    steps = np.linspace(0, image.shape[1] - SIZE, -(-count // 8)).astype(int)
    turned = [np.rot90(image[:SIZE, left : left + SIZE], k) for left in steps for k in range(4)]
    return [np.ascontiguousarray(crop) for crop in [*turned, *(crop[::-1] for crop in turned)]][:count]


def large_image(side: int, kind: str) -> np.ndarray:
    """The example, repeated in both directions to (side, side), of one of the `KINDS`."""
    image = KINDS[kind](tn.data.example_nuclei().image)
    times = [-(-side // length) for length in image.shape[:2]]
    return np.tile(image, (*times, *[1] * (image.ndim - 2)))[:side, :side].copy()


def _cases(config: NucleiConfig) -> list[tuple[Sequence[np.ndarray], bool, int]]:
    """(images, flips, turns) of each line, those that take more memory later: peaks do not go down again."""
    if config.large is not None:
        return [([large_image(config.large, config.kind)], False, 1)]
    several = crops(config.images)
    return [(images, flips, config.turns) for images in (several[:1], several) for flips in (False, True)]


def _row(net: Callable, images: Sequence[np.ndarray], flips: bool, turns: int) -> dict[str, Any]:
    """Measure a case, print its line and return its figures."""
    if turns > 1:
        tn.nuclei.segment_many(net, images[:1], flips=False)  # compiles the kernels
    times = []
    for _ in range(turns):
        start = time.perf_counter(), time.process_time()
        with tqdm(total=1, desc="tiles", disable=None, leave=False) as bar:
            found = tn.nuclei.segment_many(net, images, flips=flips, progress=_shown_by(bar))
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    seconds, cpu = np.median(times, axis=0) / len(images)
    height, width = images[0].shape[:2]
    row = {
        "images": len(images),
        "size": f"{height} x {width}",
        "flips": flips,
        "images_per_s": 1 / seconds,
        "s": seconds,
        "cpu_s": cpu,
        "peak_mb": peak_mb(),
        "nuclei": sum(int(image.labels.max()) for image in found),
    }
    shown = f"{row['images']:6} {row['size']:>13} {'yes' if flips else 'no':>5} {row['images_per_s']:8.2f}"
    print(f"{shown} {seconds:8.2f} {cpu:11.2f} {row['peak_mb']:8.0f} {row['nuclei']:,}")
    return row


def _shown_by(bar: tqdm) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show


def peak_mb() -> float:
    """The most memory that this process has held so far, in MB; NaN on Windows, which has another way to say it."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, KB elsewhere
