"""The summary of a run: one HTML page that needs no other file. `summary.html` beside this module is its template."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ...files import atomic_path

TEMPLATE = Path(__file__).with_suffix(".html")
THUMBNAIL_BYTES = 20_000_000  # of all thumbnails together: browsers get slow on larger pages
BINS = 30
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 360, 150, 34, 12, 30  # of the histogram and its margins, in units of its SVG
Records = Callable[[], Iterator[dict[str, Any]]]  # gives the records of all images, one after the other


@dataclass(frozen=True)
class ImageFacts:
    """What the page says about one image; lengths in the unit of the page."""

    name: str
    diameters: np.ndarray  # of its nuclei, float32
    border_share: float  # of its nuclei
    flags: list[dict[str, str]]
    thumbnail_bytes: int


def write_summary(path: str | os.PathLike, records: Records, skipped: Sequence[str] = ()) -> None:
    """Write the page. Links lead to the overlays beside it, if they are there.

    skipped: a sentence for each file without new results, for instance because it could not be read.
    The records are read three times, so that one at a time is in memory. If the thumbnails of all images are more than
    `THUMBNAIL_BYTES`, images with flags come first, and the last ones have none.
    """
    unit = "µm" if all(record["pixel_size"] for record in records()) else "pixels"
    images = [_facts(record, unit) for record in records()]
    shown = _with_thumbnail(images)
    page = _fill(images, unit, len(images) - len(shown), len(skipped))
    before, after = page.split("{{rows}}\n")  # names and messages follow: they may hold anything, also such marks
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", errors="replace") as file:
        file.write(before)
        for image, record in zip(images, records(), strict=True):
            overlay = Path(path).parent / "overlays" / f"{image.name}.png"
            file.write(_row(image, record["thumbnail"] if image.name in shown else "", overlay))
        file.write(after.replace("{{skipped}}\n", _skipped(skipped)))


def _facts(record: dict[str, Any], unit: str) -> ImageFacts:
    def column(key: str) -> np.ndarray:
        index = record["columns"].index(key)
        return np.array([row[index] for row in record["rows"]], np.float32)

    diameters, at_border = np.zeros(0, np.float32), np.zeros(0, np.float32)
    if record["rows"]:
        diameters = column("equivalent_diameter_um" if unit == "µm" else "equivalent_diameter")
        at_border = column("touches_border")
    share = float(at_border.mean()) if at_border.size else 0.0
    return ImageFacts(record["name"], diameters, share, record["flags"], len(record["thumbnail"]))


def _with_thumbnail(images: Iterable[ImageFacts]) -> set[str]:
    """The names of the images that are shown."""
    names, left = set(), THUMBNAIL_BYTES
    for image in sorted(images, key=lambda image: not image.flags):  # sorted keeps the order of equals
        left -= image.thumbnail_bytes
        if left < 0:
            break
        names.add(image.name)
    return names


def _fill(images: list[ImageFacts], unit: str, missing: int, skipped: int) -> str:
    """The template with everything but the rows of the table and the list of `skipped` files."""
    diameters = np.concatenate([np.zeros(0, np.float32), *(image.diameters for image in images)])
    flagged = sum(bool(image.flags) for image in images)
    facts = {"images": f"{len(images):,}", "nuclei": f"{len(diameters):,}"}
    if len(diameters):
        facts["median diameter"] = f"{np.median(diameters):.1f} {unit}"
    facts["images with a warning"] = f"{flagged:,}"
    if skipped:
        facts["files skipped"] = f'<a href="#skipped">{skipped:,}</a>'
    parts = {
        "title": f"{len(diameters):,} nuclei in {_images(len(images))}",
        "facts": "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items()),
        "warnings": _warnings(images),
        "histogram": _histogram(diameters, unit) if len(diameters) else "<p>No nucleus was found.</p>",
        "unit": unit,
        "missing": f" The page would be too large with {missing:,} more overlays." if missing else "",
    }
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        page = page.replace("{{" + name + "}}", part)
    return page


def _images(count: int) -> str:
    return f"{count:,} image" + ("s" if count != 1 else "")


def _warnings(images: Iterable[ImageFacts]) -> str:
    """How many images have which warning."""
    counts = Counter(flag["kind"] for image in images for flag in {flag["kind"]: flag for flag in image.flags}.values())
    if not counts:
        return ""
    items = ", ".join(f"{escape(kind)} ({_images(count)})" for kind, count in counts.most_common())
    return f"<p>Warnings: {items}. The table says why.</p>"


def _skipped(sentences: Sequence[str]) -> str:
    """The list of skipped files."""
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<h2 id="skipped">Skipped files</h2>\n<ul class="skipped">{items}</ul>\n'


def _row(image: ImageFacts, thumbnail: str, overlay: Path) -> str:
    """A row of the table. Names come from files, so they may hold anything: they are escaped."""
    name, count = escape(image.name), len(image.diameters)
    picture = f'<img src="{escape(thumbnail)}" alt="overlay of {name}" loading="lazy">' if thumbnail else "overlay"
    if overlay.exists():
        address = f"overlays/{quote(os.fsencode(overlay.name))}"
        picture = f'<a href="{address}">{picture}</a>'
    elif not thumbnail:
        picture = ""
    median = f"{np.median(image.diameters):.1f}" if count else ""
    share = f"{100 * image.border_share:.0f} %" if count else ""
    warnings = "".join(
        f"<li><strong>{escape(flag['kind'])}</strong>: {escape(flag['text'])}</li>" for flag in image.flags
    )
    return (
        f'<tr{" class=flagged" if image.flags else ""}><td>{picture}</td><th scope="row">{name}</th>'
        f'<td class="number" data-value="{count}">{count:,}</td>'
        f'<td class="number" data-value="{median or -1}">{median}</td>'
        f'<td class="number" data-value="{image.border_share:.4f}">{share}</td>'
        f"<td>{f'<ul>{warnings}</ul>' if warnings else ''}</td></tr>\n"
    )


# --- the histogram ------------------------------------------------------------------------------------------


def _histogram(diameters: np.ndarray, unit: str) -> str:
    """An SVG of the diameters. The last bar holds all nuclei beyond the right end."""
    step = _round_step(float(np.percentile(diameters, 99)) * 1.1 / BINS)
    counts, edges = np.histogram(np.minimum(diameters, step * (BINS - 0.5)), BINS, (0, step * BINS))
    per_bar, per_count = (WIDTH - LEFT - RIGHT) / BINS, (HEIGHT - BOTTOM - 8) / counts.max()
    bars = []
    for i, count in enumerate(counts.tolist()):
        text = f"{edges[i]:g} {unit} or more" if i == BINS - 1 else f"{edges[i]:g} to {edges[i + 1]:g} {unit}"
        height = count * per_count
        bars.append(
            f'<rect x="{LEFT + i * per_bar:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" width="{per_bar - 1:.1f}" '
            f'height="{height:.1f}"><title>{text}: {count:,} nuclei</title></rect>'
        )
    for i in range(0, BINS + 1, 5):
        bars.append(
            f'<text x="{LEFT + i * per_bar:.1f}" y="{HEIGHT - BOTTOM + 12}" text-anchor="middle">{edges[i]:g}</text>'
        )
    low, middle, high = np.percentile(diameters, (5, 50, 95))
    said = f"Half of the nuclei are wider than {middle:.1f} {unit}, and 90 % are {low:.1f} to {high:.1f} {unit} wide."
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Histogram of the diameters. {said}">'
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>{"".join(bars)}'
        f'<text x="{LEFT - 4}" y="14" text-anchor="end">{counts.max():,}</text>'
        f'<text x="{LEFT - 4}" y="{HEIGHT - BOTTOM}" text-anchor="end">0</text>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 5}" text-anchor="middle">diameter, {unit}</text></svg>'
        f"<p>{said}</p>"
    )


def _round_step(value: float) -> float:
    """The smallest of 1, 1.2, 1.6, ... times a power of ten that is not below `value`: five such steps are round."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        factor * power for factor in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10) if factor * power >= value * (1 - 1e-9)
    )
