"""Does an image look like the images that the net was trained on? A few measures, each compared with a range.

`looks.csv` holds, for each kind of image (fluorescence, histology, bright field), the range of each measure over the
training images of the 2018 Data Science Bowl. The table was made by

    python -m tinynet.nuclei.looks stage1_train.zip

A net that was fine-tuned on images of its user knows these, too: `train` stores the wider ranges with the weights.
"""

from __future__ import annotations

import argparse
import csv
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..data import Sample, image_kind, read_nuclei
from ..files import table_file
from ..imaging.instances import median_diameter
from ..imaging.intensity import gray
from ..imaging.segment import DIAMETER, ENOUGH_TO_MEASURE, middle_of

TABLE = Path(__file__).with_name("looks.csv")
TAIL = 0.5  # percent of the training images of a kind that lie below the range, and above it
# Ranges are widened on both sides by a fraction of their width. It is larger for the few images of a user, and for the
# nuclei: the training images have outlines by hand, and what the net finds differs from them also where it is right.
SHIPPED_MARGIN = 0.1
OWN_MARGIN = 0.25
NUCLEI_MARGIN = 0.25
LEAST_WIDTH = 0.1  # of a range, where its fraction is taken: gray images alone would give the colors a width of 0

OF_NUCLEI = ("area covered by nuclei", "nucleus minus surroundings", "texture of a nucleus", "spread of the sizes")
Looks = dict[str, dict[str, tuple[float, float]]]  # kind of image -> measure -> (lowest, highest)


def measures(image: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How an image (H, W, 3) uint8 and its nuclei, integers (H, W), look: {measure: value}. NaN without nuclei.

    Gray levels are fractions of the image's own contrast, unless a measure says otherwise. Of a large image, the middle
    is measured.
    """
    middle = middle_of(labels.shape, ENOUGH_TO_MEASURE)
    image, labels = image[middle], labels[middle]
    levels = gray(image)
    low, high = np.percentile(levels, [1, 99.7])
    contrast = max(float(high - low), 1.0)
    red, green, blue = image.reshape(-1, 3).mean(axis=0) / 255
    found = {
        "color": float(np.ptp(image, axis=2).mean() / 255),
        "red minus blue": float(red - blue),
        "green minus the mean of red and blue": float(green - (red + blue) / 2),
        "contrast": contrast / 255,
        "sharpness": float((levels - ndimage.gaussian_filter(levels, 1)).std() / contrast),
    }
    return found | _of_nuclei(levels / contrast, labels)


def _of_nuclei(levels: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The measures of the nuclei. levels: gray levels (H, W), divided by their contrast."""
    mask = labels > 0
    if not mask.any():
        return dict.fromkeys(OF_NUCLEI, float("nan"))
    _, places, areas = np.unique(labels[mask], return_inverse=True, return_counts=True)
    inside = levels[mask].astype(np.float64)
    means = np.bincount(places, inside) / areas
    texture = float(np.median(np.sqrt(np.bincount(places, (inside - means[places]) ** 2) / areas)))
    width = max(2, round(median_diameter(labels) / 4))
    outside = ndimage.distance_transform_edt(~mask)
    ring = (outside > 1) & (outside <= 1 + width)
    around = float(levels[ring if ring.any() else ~mask].mean()) if not mask.all() else float("nan")
    spread = float(np.sqrt(np.percentile(areas, 90) / np.percentile(areas, 10)))
    return dict(zip(OF_NUCLEI, (float(mask.mean()), float(inside.mean()) - around, texture, spread)))


# ---------------------------------------------------------------------------------------- ranges
@functools.cache
def shipped_looks() -> Looks:
    """The ranges of the images that the shipped net was trained on."""
    looks: Looks = {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            looks.setdefault(row["kind"], {})[row["measure"]] = (float(row["lowest"]), float(row["highest"]))
    return looks


def looks_of(samples: Sequence[Sample], known: Looks | None = None, margin: float = OWN_MARGIN) -> Looks:
    """The ranges of training images with their labels, for each kind of image.

    known: ranges that are included, of the images that the net saw before. margin: the fraction of a range by which
    the ranges of `samples` are widened on both sides, for measures of the nuclei at least `NUCLEI_MARGIN`.
    """
    looks = dict(known or {})
    measured = [(sample.kind, measures(sample.image, sample.labels)) for sample in samples if sample.labels is not None]
    for kind in dict.fromkeys(kind for kind, _ in measured):  # in the same order in every run
        rows = [row for other, row in measured if other == kind]
        before, looks[kind] = looks.get(kind, {}), {}
        for name in rows[0]:
            values = [row[name] for row in rows if not np.isnan(row[name])]
            own = [tuple(np.percentile(values, [TAIL, 100 - TAIL]).tolist())] if values else []
            ranges = [before[name]] if name in before else []
            width = max([LEAST_WIDTH, *(high - low for low, high in own + ranges)])
            more = width * (max(margin, NUCLEI_MARGIN) if name in OF_NUCLEI else margin)
            ranges += [(low - more, high + more) for low, high in own]
            if ranges:
                lowest, highest = zip(*ranges)
                looks[kind][name] = (min(lowest), max(highest))
    return looks


# ---------------------------------------------------------------------------------------- warnings
def unlike(image: np.ndarray, labels: np.ndarray, looks: Looks) -> str:
    """What is unlike the training images, in a part of a sentence; "" if every measure is in its range.

    Of several measures, the one that is farthest out is named.
    """
    kind = image_kind(image[middle_of(labels.shape, ENOUGH_TO_MEASURE)])
    if kind not in looks:
        return f"it looks like {kind}, and the net was trained on {', '.join(sorted(looks)) or 'nothing'}"
    worst, text = 0.0, ""
    for name, value in measures(image, labels).items():
        low, high = looks[kind].get(name, (-np.inf, np.inf))
        out = max(low - value, value - high) / max(high - low, 1e-9)  # NaN, without nuclei, is not above worst
        if out > worst:
            worst = out
            limit = f"at most {high:.2g}" if value > high else f"at least {low:.2g}"
            text = f"{name} is {value:.2g}, in the training images ({kind}) {limit}"
    return text


def doubt(image: np.ndarray, labels: np.ndarray, looks: Looks, scale: float | None = None) -> str:
    """Why the nuclei found in an image may be wrong, in a sentence; "" if they look right.

    image: uint8 (H, W, 3); labels: integers (H, W); looks: of the images that the net was trained on; scale: the factor
    that enlarged the image for the net, None if the net sees images as they are.
    """
    diameter = median_diameter(labels)
    if np.isnan(diameter):
        return "no nucleus was found; is the channel of the nuclei shown, and are they 5 to 200 pixels wide?"
    if scale and not 0.5 <= diameter * scale / DIAMETER <= 2:
        return (
            f"the nuclei found are {diameter:.0f} pixels wide, {diameter * scale:.0f} in the image that the net sees; "
            f"it was trained on about {DIAMETER:.0f}: resize the image"
        )
    reason = unlike(image, labels, looks)
    return f"the image looks unlike those that the net was trained on: {reason}; check the outlines" if reason else ""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make looks.csv: how the training images look.")
    parser.add_argument("zip", type=Path, help="stage1_train.zip, or the folder it unpacks to")
    parser.add_argument("--out", type=Path, default=TABLE, help="the table to write")
    arguments = parser.parse_args(argv)
    looks = looks_of(read_nuclei(arguments.zip), margin=SHIPPED_MARGIN)
    with table_file(arguments.out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "measure", "lowest", "highest"])
        for kind, ranges in sorted(looks.items()):
            writer.writerows((kind, name, f"{low:.4g}", f"{high:.4g}") for name, (low, high) in ranges.items())


if __name__ == "__main__":
    main()
