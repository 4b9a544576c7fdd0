"""The outlines of nuclei as lines that a browser draws: along the edges of pixels, as the exported files have them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..outputs.outlines import Polygon, nucleus_outlines

Outline = list[list[int]]  # rings, each [x0, y0, x1, y1, ...]; the coordinates are those of `edit`


def all_outlines(labels: np.ndarray) -> dict[int, Outline]:
    """The outline of every nucleus of a label image (H, W), by its number."""
    return {number: _rings(polygons, 0, 0) for number, polygons in nucleus_outlines(labels)}


def outlines_of(labels: np.ndarray, nuclei: Iterable[int], top: int = 0, left: int = 0) -> dict[int, Outline | None]:
    """The outlines of some nuclei that lie in a part of an image; None for a nucleus that is gone.

    labels: the part (h, w). top, left: where it begins.
    """
    wanted = list(nuclei)
    found = dict(nucleus_outlines(np.where(np.isin(labels, wanted), labels, 0)))
    return {number: _rings(found[number], top, left) if number in found else None for number in wanted}


def _rings(polygons: list[Polygon], top: int, left: int) -> Outline:
    return [[n for x, y in ring for n in (x + left, y + top)] for polygon in polygons for ring in polygon]
