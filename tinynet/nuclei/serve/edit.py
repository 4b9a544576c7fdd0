"""Corrections of a label image: delete, merge, split and draw a nucleus. They return a `Patch` and change nothing.

A label image is int32 (H, W): 0 is background, and each nucleus has a number of its own. Points are (x, y) in pixels;
(0, 0) is the upper left corner of the image, so the middle of its first pixel is (0.5, 0.5). All coordinates that a
browser sends are of this kind.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.draw import line as line_pixels
from skimage.draw import polygon as polygon_pixels

SPECK = 9  # pixels: a smaller piece is no nucleus
MAX_GAP = 5.0  # pixels between the edges of two nuclei that are merged; the gap is filled
EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)


class EditError(ValueError):
    """An edit that cannot be done; the message says why and what to do instead."""


class Patch(NamedTuple):
    """New pixels of a label image: `pixels` replaces the rectangle whose upper left pixel is (top, left)."""

    top: int
    left: int
    pixels: np.ndarray

    @property
    def region(self) -> tuple[slice, slice]:
        height, width = self.pixels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def put(labels: np.ndarray, patch: Patch) -> Patch:
    """Write a patch into `labels`, in place. Returns the patch that undoes it."""
    before = Patch(patch.top, patch.left, labels[patch.region].copy())
    labels[patch.region] = patch.pixels
    return before


def changed_nuclei(before: np.ndarray, after: np.ndarray) -> list[int]:
    """The numbers whose pixels differ between two label images of one shape, in ascending order."""
    differs = before != after
    return np.setdiff1d(np.concatenate([before[differs], after[differs]]), [0]).tolist()


def delete(labels: np.ndarray, nucleus: int) -> Patch:
    """The nucleus becomes background. Raises EditError if there is no nucleus of this number."""
    box = _box_of(labels, nucleus)
    return _patch(box, np.where(labels[box] == nucleus, 0, labels[box]))


def merge(labels: np.ndarray, first: int, second: int) -> Patch:
    """Two nuclei become one, which keeps the number of the first. A gap of up to `MAX_GAP` pixels is filled.

    Raises EditError if a nucleus is missing, if both are the same, if the gap is wider, or if another nucleus fills it.
    """
    if first == second:
        raise EditError("merging needs two nuclei: choose another one as the second")
    boxes = _box_of(labels, first), _box_of(labels, second)
    box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(*boxes))
    view = labels[box]
    both = (view == first) | (view == second)
    if not _joined(both, view, first, second):
        both |= _gap(view, first, second)
        if not _joined(both, view, first, second):
            raise EditError("another nucleus lies between these two; delete it first")
    return _patch(box, np.where(both, first, view))


def split(labels: np.ndarray, line: np.ndarray) -> Patch:
    """The nucleus that the line cuts in two becomes two nuclei (or more, if the line crosses it several times).

    line: (N, 2) points. If it cuts several nuclei, the nucleus that it crosses longest is split. The largest piece
    keeps the number. The pixels below the line go to the nearest piece. Raises EditError if no nucleus is cut.
    """
    rows, columns = _pixels_of(line, labels.shape)
    numbers, counts = np.unique(labels[rows, columns], return_counts=True)
    for nucleus in numbers[np.argsort(-counts, kind="stable")]:
        if nucleus == 0:
            continue
        box = _box_of(labels, nucleus)
        mask = labels[box] == nucleus
        cut = mask.copy()
        inside = labels[rows, columns] == nucleus
        cut[rows[inside] - box[0].start, columns[inside] - box[1].start] = False
        pieces, count = _pieces(cut)
        if count > _pieces(mask)[1]:
            return _patch(box, _renumbered(labels, box, mask, pieces))
    raise EditError("the line cuts no nucleus in two; draw it from one side of a nucleus to the other")


def draw(labels: np.ndarray, outline: np.ndarray) -> Patch:
    """A new nucleus inside of a closed outline, (N, 2) points. Its number is the highest plus one.

    Pixels whose middle is inside belong to it, unless another nucleus has them. Of several pieces only the largest
    stays. Raises EditError if fewer than `SPECK` pixels are left.
    """
    rows, columns = polygon_pixels(outline[:, 1] - 0.5, outline[:, 0] - 0.5, labels.shape)
    if rows.size == 0:
        raise EditError("the outline encloses no pixel; draw a larger one")
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    view = labels[box]
    inside = np.zeros(view.shape, dtype=bool)
    inside[rows - box[0].start, columns - box[1].start] = True
    pieces, _ = ndimage.label(inside & (view == 0), EIGHT_NEIGHBORS)
    areas = np.bincount(pieces.ravel())[1:]
    if areas.max(initial=0) < SPECK:
        raise EditError(
            f"the outline encloses {areas.max(initial=0)} free pixels; a nucleus needs {SPECK}, and pixels of other "
            "nuclei do not count: delete those first"
        )
    return _patch(box, np.where(pieces == areas.argmax() + 1, labels.max() + 1, view))


# ---------------------------------------------------------------------------------------- how it is done
Box = tuple[slice, ...]


def _patch(box: Box, pixels: np.ndarray) -> Patch:
    return Patch(int(box[0].start), int(box[1].start), pixels.astype(np.int32))


def _box_of(labels: np.ndarray, nucleus: int) -> Box:
    mask = labels == nucleus
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if nucleus < 1 or rows.size == 0:
        raise EditError(f"there is no nucleus {nucleus} any more; reload the page if it still shows it")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _joined(mask: np.ndarray, view: np.ndarray, first: int, second: int) -> bool:
    """True if a component of the mask holds pixels of both nuclei."""
    components, _ = ndimage.label(mask, EIGHT_NEIGHBORS)
    return bool(np.intersect1d(components[view == first], components[view == second]).size)


def _gap(view: np.ndarray, first: int, second: int) -> np.ndarray:
    """The background on the shortest ways between two nuclei."""
    to_first, to_second = (ndimage.distance_transform_edt(view != nucleus) for nucleus in (first, second))
    apart = to_first[view == second].min() - 1
    if apart > MAX_GAP:
        raise EditError(f"the two nuclei are {apart:.0f} pixels apart; at most {MAX_GAP:.0f} can be bridged")
    return (view == 0) & (to_first + to_second <= apart + 2)


def _pixels_of(line: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of the pixels below a line, without gaps between neighbors, inside of the image."""
    points = np.floor(line).astype(int)
    steps = [line_pixels(y0, x0, y1, x1) for (x0, y0), (x1, y1) in pairwise(points)]
    rows, columns = np.unique(np.concatenate(steps, axis=1), axis=1)
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return rows[inside], columns[inside]


def _pieces(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The components of a mask, numbered by area from the largest on, and their number; without specks.

    Only the four neighbors above, below, left and right count as connected: a slanted line, whose pixels touch at
    corners, separates what lies on its two sides.
    """
    components, _ = ndimage.label(mask)
    areas = np.bincount(components.ravel())
    areas[0] = 0
    order = np.argsort(-areas, kind="stable")
    ranks = np.zeros(areas.size, dtype=np.int32)
    ranks[order] = np.arange(1, areas.size + 1)
    ranks[areas < SPECK] = 0
    return ranks[components], int((areas >= SPECK).sum())


def _renumbered(labels: np.ndarray, box: Box, mask: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """The box of a nucleus, whose pixels got the number of the nearest piece."""
    nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
    piece = pieces[tuple(nearest)]
    view, highest = labels[box], labels.max()
    nucleus = view[mask][0]
    return np.where(mask, np.where(piece == 1, nucleus, highest + piece - 1), view)
