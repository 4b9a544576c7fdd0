"""Selections for ImageJ's ROI Manager: one for each nucleus."""

from __future__ import annotations

import os
import zipfile

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from ...files import atomic_path
from .outlines import Polygon, nucleus_outlines

MOVE_TO, LINE_TO, CLOSE = 0.0, 1.0, 4.0  # the commands in the path of a composite selection


def write_rois(path: str | os.PathLike, labels: np.ndarray) -> None:
    """Write the outlines of a label image, integers (H, W), as a zip file: ImageJ and Fiji open it by dragging.

    A selection is named by the number of its nucleus, "0001" for nucleus 1, and holds exactly its pixels.
    As ImageJ's wand does, it runs along the edges of pixels. A nucleus with a hole or in several pieces is one
    composite selection. Without nuclei the archive is empty. An older file is replaced in one step. Raises OSError.
    """
    digits = max(4, len(str(labels.max())))
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, polygons in nucleus_outlines(labels):
            name = f"{number:0{digits}d}"
            entry = zipfile.ZipInfo(f"{name}.roi")  # without the time: the same nuclei make the same file
            entry.external_attr = 0o644 << 16  # files that a user can read, if unpacked
            archive.writestr(entry, selection(name, polygons).tobytes(), zipfile.ZIP_DEFLATED)


def selection(name: str, polygons: list[Polygon]) -> ImagejRoi:
    """The selection of one nucleus: a traced polygon, or a composite of several rings."""
    rings = [ring for polygon in polygons for ring in polygon]
    corners = np.concatenate(rings)
    if len(rings) == 1:
        roi = ImagejRoi.frompoints(corners, name=name)
        roi.roitype = ROI_TYPE.TRACED
    else:
        path = np.concatenate([_commands(ring) for ring in rings])
        roi = ImagejRoi(roitype=ROI_TYPE.RECT, name=name, shape_roi_size=len(path), multi_coordinates=path)
    (roi.left, roi.top), (roi.right, roi.bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return roi


def _commands(ring: list[tuple[int, int]]) -> np.ndarray:
    """A closed ring as commands of a path: move to the first corner, draw lines to the others, close."""
    lines = np.insert(np.array(ring, np.float32), 0, LINE_TO, axis=1)
    lines[0, 0] = MOVE_TO
    return np.append(lines, np.float32(CLOSE))
