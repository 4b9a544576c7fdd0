"""The nuclei of images of any size: in tiles, with the same result as in one piece.

A tile has a *core*, and the cores of all tiles make up the image. Around it is a margin of `KEEP` pixels, in which
nuclei are found too. Two neighbors see the strip along their seam, and what they find there is the same, because the
net sees `segment.MARGIN` more pixels around each tile. So a nucleus on a seam is known to both, and gets one number: of
two nuclei that overlap in the shared strip by an IoU above one half, both are one nucleus.

This is exact for nuclei up to `KEEP` pixels wide, four times as wide as the median nucleus. A tile may see only a part
of a larger one. Its parts are joined too, if both tiles draw about the same outline in the strip.

A small image is one tile.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..imaging import segment
from ..imaging.intensity import apply_normalization, normalization

CORE = 2048  # pixels of the image, or of the enlarged image: tiles of this size take about 2 GB
KEEP = 4 * round(segment.DIAMETER)  # pixels at the scale of the net
CONTEXT = 2  # pixels that linear interpolation needs beyond a part
STRIP = 1024  # rows of a label image that are renumbered at once
FLIPS: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (0, 1))  # the axes along which an image is mirrored

Part = tuple[slice, slice]  # rows and columns


class View:
    """An image as the net sees it, normalized and at `scale`. It is made part by part, because of its size."""

    def __init__(self, image: np.ndarray, scale: float, normal: tuple[float, float]) -> None:
        self.image, self.scale, self.normal = image, scale, normal
        self.size = segment.size_at_scale(image.shape[:2], scale)
        self._last: tuple[Part, np.ndarray] | None = None

    def part(self, part: Part) -> np.ndarray:
        """These rows and columns of the view: (h, w, 3) float32."""
        if self._last is None or self._last[0] != part:
            self._last = part, self._cut(part)
        return self._last[1]

    def _cut(self, part: Part) -> np.ndarray:
        pixels, ends = [], []  # the pixels of the image that the part needs; where it begins and ends among them
        for wanted, view_length, length in zip(part, self.size, self.image.shape):
            start, stop = (end * length / view_length for end in (wanted.start, wanted.stop))
            reach = CONTEXT * math.ceil(max(1, length / view_length))
            first = max(0, math.floor(start) - reach)
            pixels.append(slice(first, min(length, math.ceil(stop) + reach)))
            ends.append((start - first, stop - first))
        normal = apply_normalization(self.image[tuple(pixels)], *self.normal)
        if self.size == self.image.shape[:2]:
            rows, columns = (slice(round(first), round(last)) for first, last in ends)
            return normal[rows, columns]
        (top, bottom), (left, right) = ends
        return segment.resize(normal, _shape(part), (left, top, right, bottom))

    def around(self, part: Part, axes: tuple[int, ...]) -> tuple[np.ndarray, Part]:
        """(what the net has to see for a part of the view, mirrored along `axes`; where the part is in it).

        The net halves its input four times, so what it sees begins at a multiple of 16 pixels of the mirrored view.
        """
        seen, inner = [], []
        for axis, (wanted, length) in enumerate(zip(part, self.size)):
            mirrored = axis in axes
            start, stop = (length - wanted.stop, length - wanted.start) if mirrored else (wanted.start, wanted.stop)
            first = max(0, start - segment.MARGIN) // segment.MULTIPLE * segment.MULTIPLE
            last = min(length, -(-(stop + segment.MARGIN) // segment.MULTIPLE) * segment.MULTIPLE)
            seen.append(slice(length - last, length - first) if mirrored else slice(first, last))
            inner.append(slice(start - first, stop - first))
        return np.flip(self.part((seen[0], seen[1])), axes), (inner[0], inner[1])

    def covering(self, zone: Part, of: tuple[int, int]) -> Part:
        """The part that shows a zone of an image of size `of`, and what interpolation needs around it."""
        rows, columns = (
            slice(max(0, math.floor(z.start * n / m) - reach), min(n, math.ceil(z.stop * n / m) + reach))
            for z, n, m, reach in (
                (z, n, m, CONTEXT * math.ceil(max(1, n / m))) for z, n, m in zip(zone, self.size, of)
            )
        )
        return rows, columns


@dataclass
class Tiled:
    """An image whose nuclei are found tile by tile: `tiles`, then `add` for each of them in this order, then `finish`.

    image: (H, W, 3) uint8. scale: of the net's input. min_area: nuclei of fewer pixels of the image are dropped; None
    for the usual limit, `segment.MIN_AREA` at the scale of the net.
    """

    image: np.ndarray
    scale: float
    flips: bool
    min_area: float | None = None
    _pairs: list[np.ndarray] = field(default_factory=list)  # numbers of one nucleus in two tiles
    _neighbors: list[tuple[Part, np.ndarray]] = field(default_factory=list)  # tiles that touch later tiles
    _count: int = 0

    def __post_init__(self) -> None:
        self.view = View(self.image, self.scale, normalization(self.image))
        self.size: tuple[int, int] = self.image.shape[:2]
        self.labels = np.zeros(self.size, np.int32)

    @functools.cached_property
    def cores(self) -> list[Part]:
        """The cores of the tiles, row by row."""
        rows, columns = (_cuts(length, CORE / max(1.0, self.scale)) for length in self.size)
        return [(r, c) for r in rows for c in columns]

    def tiles(self) -> Iterator[Tile]:
        keep = math.ceil(KEEP / self.scale)
        for core in self.cores:
            rows, columns = (
                slice(max(0, c.start - keep), min(n, c.stop + keep)) for c, n in zip(core, self.labels.shape)
            )
            yield Tile(self, core, (rows, columns))

    def add(self, tile: Tile, found: np.ndarray) -> None:
        """What `Tile.nuclei` found in the next tile."""
        found[found > 0] += self._count
        self._count = max(self._count, int(found.max()))
        self.labels[tile.core] = found[_within(tile.core, tile.zone)]
        for zone, earlier in self._neighbors:
            shared = _overlap(zone, tile.zone)
            if shared:
                self._pairs.append(same_nuclei(earlier[_within(shared, zone)], found[_within(shared, tile.zone)]))
        touching = [n for n in self._neighbors if n[0][0].stop > tile.zone[0].start]
        self._neighbors = [*touching, (tile.zone, found)]

    def finish(self, exclude_border: bool = False) -> np.ndarray:
        """The label image: one number for each nucleus, 1, 2, ... without gaps."""
        number = np.arange(self._count + 1)
        if self._pairs:
            first, second = np.concatenate(self._pairs, axis=1)
            graph = coo_array((np.ones(len(first), bool), (first, second)), (len(number), len(number)))
            number = connected_components(graph, directed=False)[1]  # 0 stays 0: it is in no pair
        strips = [self.labels[top : top + STRIP] for top in range(0, len(self.labels), STRIP)]
        areas = np.zeros(len(number), np.int64)
        for strip in strips:
            strip[:] = number[strip]
            areas += np.bincount(strip.ravel(), minlength=len(areas))
        keep = areas >= max(1, self.min_area or 1)
        keep[0] = False
        if exclude_border:
            for edge in (self.labels[0], self.labels[-1], self.labels[:, 0], self.labels[:, -1]):
                keep[edge] = False
        number = np.where(keep, np.cumsum(keep), 0)
        for strip in strips:
            strip[:] = number[strip]
        return self.labels


@dataclass
class Tile:
    """A part of an image. core: its own pixels; zone: the pixels, a margin included, in which nuclei are found."""

    of: Tiled
    core: Part
    zone: Part

    @functools.cached_property
    def part(self) -> Part:
        """The part of the view that shows the zone."""
        return self.of.view.covering(self.zone, self.of.size)

    def nuclei(self, maps: np.ndarray) -> np.ndarray:
        """The nuclei in the zone, in the pixels of the image, from its maps: int32, 1, 2, ..., some may be missing."""
        min_area = None if self.of.min_area is None else 1  # `finish` knows the whole area of each nucleus
        in_zone = _resized(maps.astype(np.float32), self.part, self.of.view.size, self.zone, self.of.size)
        return segment.labels_from_maps(in_zone, 1 / self.of.scale, min_area)


def predict(net: segment.Net, tiles: Sequence[Tile]) -> list[np.ndarray]:
    """The maps of each tile. Tiles of one size share passes of the net; all must be for the same `flips`."""
    flips = FLIPS if tiles[0].of.flips else FLIPS[:1]
    total: list = [0] * len(tiles)
    for axes in flips:
        seen, inner = zip(*(tile.of.view.around(tile.part, axes) for tile in tiles))
        for i, predicted in enumerate(segment.predict_batch(net, seen)):
            total[i] = total[i] + np.flip(predicted[inner[i]], axes)
    return [sum_ / len(flips) for sum_ in total]


def same_nuclei(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The numbers (2, n) of nuclei that overlap in two label images of the same place by an IoU above one half."""
    both = (first > 0) & (second > 0)
    pairs, shared = np.unique(np.stack([first[both], second[both]]), axis=1, return_counts=True)
    areas = [np.bincount(labels.ravel())[numbers] for labels, numbers in zip((first, second), pairs)]
    return pairs[:, 3 * shared > areas[0] + areas[1]]  # IoU: shared / (areas - shared)


def _cuts(length: int, most: float) -> list[slice]:
    """The fewest equal parts of `length` pixels that have at most `most` pixels."""
    count = math.ceil(length / most)
    ends = [round(i * length / count) for i in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _shape(part: Part) -> tuple[int, int]:
    rows, columns = part
    return rows.stop - rows.start, columns.stop - columns.start


def _within(part: Part, of: Part) -> Part:
    """The same place, counted from the first pixel of `of`."""
    rows, columns = (slice(p.start - o.start, p.stop - o.start) for p, o in zip(part, of))
    return rows, columns


def _overlap(first: Part, second: Part) -> Part | None:
    rows, columns = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _resized(maps: np.ndarray, part: Part, size: tuple[int, int], wanted: Part, of: tuple[int, int]) -> np.ndarray:
    """Maps of a `part` of an image of `size`, as the part `wanted` of the same image at the size `of`."""
    ends = []
    for p, n, w, m in zip(part, size, wanted, of):
        ends.append((max(0.0, w.start * n / m - p.start), min(float(p.stop - p.start), w.stop * n / m - p.start)))
    (top, bottom), (left, right) = ends
    return segment.resize(maps, _shape(wanted), (left, top, right, bottom))
