"""Outlines and measurements for QuPath: GeoJSON, a detection for each nucleus."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...files import atomic_path
from ...imaging.viz import SKY
from .outlines import Polygon, Ring, nucleus_outlines

CLASS = {"name": "Nucleus", "color": list(SKY)}


def write_geojson(path: str | os.PathLike, labels: np.ndarray, rows: Sequence[dict[str, Any]] = ()) -> None:
    """Write the outlines of a label image, integers (H, W), as a GeoJSON file. QuPath opens it by dragging.

    Coordinates are pixels of the whole image; (0, 0) is the upper left corner of its upper left pixel. An outline runs
    along the edges of pixels and holds exactly the pixels of its nucleus. Each nucleus is a detection: its name is the
    number, its class "Nucleus". rows: the results of `instances.measure`, which become its measurements.
    An older file is replaced in one step. Raises OSError if the file cannot be written.
    """
    measured = {row["id"]: row for row in rows}
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        between = "\n"
        for number, polygons in nucleus_outlines(labels):  # one after the other: 100,000 nuclei need no memory
            file.write(between + json.dumps(_feature(number, polygons, measured.get(number, {}))))
            between = ",\n"
        file.write("\n]}\n")


def _feature(number: int, polygons: list[Polygon], row: dict[str, Any]) -> dict[str, Any]:
    closed = [[_closed(ring) for ring in polygon] for polygon in polygons]
    if len(closed) == 1:
        geometry: dict[str, Any] = {"type": "Polygon", "coordinates": closed[0]}
    else:
        geometry = {"type": "MultiPolygon", "coordinates": closed}
    measurements = {key: value for key, value in row.items() if key != "id" and math.isfinite(value)}
    properties = {
        "objectType": "detection",
        "name": str(number),
        "classification": CLASS,
        "measurements": measurements,
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(ring: Ring) -> Ring:
    """In GeoJSON the first corner of a ring stands at its end again."""
    return [*ring, ring[0]]
