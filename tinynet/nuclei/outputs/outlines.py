"""Outlines along the edges of pixels: polygons that hold exactly the pixels of a nucleus."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from ...imaging.checks import check_labels
from ...imaging.instances import each_nucleus

Ring = list[tuple[int, int]]  # corners (x, y) of pixels; the last one is joined to the first one
Polygon = list[Ring]  # the outer ring, then the rings of the holes

EAST, SOUTH, WEST, NORTH = range(4)
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # (x, y) of a step in each direction; y points down
# Where the pixels ahead of a corner lie, on the left and on the right: (row, column) from the pixel right below it.
LEFT = ((-1, 0), (0, 0), (0, -1), (-1, -1))
RIGHT = ((0, 0), (0, -1), (-1, -1), (-1, 0))


def outlines(mask: np.ndarray) -> list[Polygon]:
    """The polygons of a mask, bool (H, W): one for each 4-connected piece. They are valid in the sense of GeoJSON.

    (0, 0) is the upper left corner of the upper left pixel, and the pixel of row r and column c is the square from
    (c, r) to (c + 1, r + 1). A ring only has the corners at which it turns. Outer rings run clockwise on the screen,
    holes the other way. Pieces that touch at a corner only are polygons of their own: a ring never touches itself.
    """
    pieces, count = ndimage.label(mask)
    pieces = np.pad(pieces, 1)
    # Every ring has an edge that runs east, with a pixel of its piece below: start at one that no ring has yet.
    below, above = pieces[1:], pieces[:-1]
    rows, columns = np.nonzero((below > 0) & (below != above))
    grid = pieces.tolist()
    polygons: list[Polygon] = [[] for _ in range(count)]
    traced: set[tuple[int, int]] = set()
    for row, column in zip((rows + 1).tolist(), columns.tolist(), strict=True):
        if (column, row) not in traced:
            ring = _trace(grid, column, row, traced)
            polygons[grid[row][column] - 1].append(ring)  # the topmost edge of a piece is of its outer ring
    return polygons


def _trace(grid: list[list[int]], x: int, y: int, traced: set[tuple[int, int]]) -> Ring:
    """The ring whose edge runs east from the corner (x, y); the piece is on the right-hand side of every edge.

    Where two pixels of the piece touch at a corner only, the ring crosses over from one to the other. The corner then
    lies on two rings, an outer one and a hole, instead of twice on one. The starts of all edges that run east are added
    to `traced`. The grid has a frame of one background pixel, which the corners of the ring do not count.
    """
    piece, start, heading, ring = grid[y][x], (x, y), EAST, []
    while True:
        if heading == EAST:
            traced.add((x, y))
        x, y = x + STEPS[heading][0], y + STEPS[heading][1]
        (left_row, left_column), (right_row, right_column) = LEFT[heading], RIGHT[heading]
        if grid[y + left_row][x + left_column] == piece:
            turned = (heading - 1) % 4
        elif grid[y + right_row][x + right_column] == piece:
            turned = heading
        else:
            turned = (heading + 1) % 4
        if turned != heading:
            ring.append((x - 1, y - 1))
        heading = turned
        if heading == EAST and (x, y) == start:
            return ring


def nucleus_outlines(labels: np.ndarray) -> Iterator[tuple[int, list[Polygon]]]:
    """(number, polygons) of each nucleus in a label image, integers (H, W), by ascending number; see `outlines`."""
    labels = check_labels("nucleus_outlines", "labels", labels)
    for number, box, mask in each_nucleus(labels):
        top, left = box[0].start, box[1].start
        yield number, [[[(x + left, y + top) for x, y in ring] for ring in polygon] for polygon in outlines(mask)]
