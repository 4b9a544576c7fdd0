"""What was found in one image, its files, and the record of what the tables need to know about it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data.microscopy import Plane
from ...errors import DataError
from ...files import atomic_path
from ...imaging.instances import MEASUREMENTS, measure
from ...imaging.viz import save_png
from .flags import flags
from .geojson import write_geojson
from .images import overlay_for_screen, thumbnail, write_labels
from .rois import write_rois

FORMATS = {"labels": ".tif", "overlays": ".png", "rois": ".zip", "geojson": ".geojson"}  # folder: suffix
RECORDS = "results"  # folder of the records
VERSION = 1  # of a record
FIELDS = {  # of a record, with their types: what the tables and the next run need
    "name": str,
    "source": str,
    "fingerprint": str,
    "nuclei": int,
    "flags": list,
    "thumbnail": str,
    "columns": list,
    "rows": list,
}


@dataclass(frozen=True)
class Result:
    """What was found in one image.

    plane: what the microscope recorded: its name, all channels, the pixel size. image: uint8 (H, W, 3), what the net
    saw. labels: integers (H, W), 0 background and 1, 2, ... the nuclei. doubt: why the labels may be wrong, or "".
    fingerprint: a hash of the image, which its record keeps: a later run sees whether the file has changed.
    """

    plane: Plane
    image: np.ndarray
    labels: np.ndarray
    doubt: str = ""
    fingerprint: str = ""


def record_path(folder: str | os.PathLike, name: str) -> Path:
    """The file that marks the image `name` as done."""
    return Path(folder) / RECORDS / f"{name}.json"


def format_path(folder: str | os.PathLike, format: str, name: str) -> Path:
    """The file of one image in one of `FORMATS`."""
    return Path(folder) / format / f"{name}{FORMATS[format]}"


def write_results(
    folder: str | os.PathLike, result: Result, formats: Collection[str] = tuple(FORMATS)
) -> dict[str, Any]:
    """Write the files of one image, and at last its record, which is returned; see `make_record`.

    formats: some of `FORMATS`; by default all. Files of an earlier run are replaced. The record is deleted first: it is
    there only if all files are complete and belong together.
    Raises OSError, for instance if the disk is full, with the name of the file; half a file is never left.
    """
    name, labels, pixel_size = result.plane.name, result.labels, result.plane.pixel_size
    record_path(folder, name).unlink(missing_ok=True)
    record, rows = make_record(result)
    paths = {format: format_path(folder, format, name) for format in formats}
    if "labels" in paths:
        write_labels(paths["labels"], labels, pixel_size)
    if "overlays" in paths:
        save_png(paths["overlays"], overlay_for_screen(result.image, labels))
    if "rois" in paths:
        write_rois(paths["rois"], labels)
    if "geojson" in paths:
        write_geojson(paths["geojson"], labels, rows)
    with atomic_path(record_path(folder, name)) as temporary:
        temporary.write_text(json.dumps(record), encoding="ascii")
    return record


def make_record(result: Result) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what the tables need to know about one image, as plain values; the measurements of its nuclei).

    In the record the measurements are "columns", a list of names, and "rows", a list of values for each nucleus.
    """
    plane = result.plane
    measured = measure(result.labels, plane.channels, plane.pixel_size)
    rows = [{key: _rounded(value) for key, value in row.items()} for row in measured]
    record = {
        "version": VERSION,
        "name": plane.name,
        "source": plane.source,
        "fingerprint": result.fingerprint,
        "size": list(result.labels.shape),
        "pixel_size": plane.pixel_size,
        "nuclei": len(rows),
        "flags": flags(rows, result.doubt),
        "thumbnail": thumbnail(result.image, result.labels),
        "columns": list(rows[0]) if rows else [],
        "rows": [list(row.values()) for row in rows],
    }
    return record, rows


def _rounded(value: float) -> float:
    """Seven digits are more than any image knows; the table gets shorter."""
    return value if isinstance(value, int) else float(f"{value:.7g}")


def read_record(path: Path) -> dict[str, Any]:
    """A record that `write_results` wrote. Raises `DataError` if it is damaged or of another version."""
    try:
        record = json.loads(path.read_text(encoding="ascii"))
        _check_fields(record)
        _check_rows(record)
        return record
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no record of this version of tinynet ({error})") from error


def _check_fields(record: Any) -> None:
    """Raise ValueError if a field is missing, or holds something else than `make_record` puts there."""
    if not isinstance(record, dict) or record.get("version") != VERSION:
        found = record.get("version") if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"its version is {found}, {VERSION} is needed")
    for field, kind in FIELDS.items():
        if type(record.get(field)) is not kind:
            raise ValueError(f"its {field} is {_shortened(record.get(field))}, {kind.__name__} is needed")
    pixel_size = record.get("pixel_size", "missing")
    if pixel_size is not None and not (_is_number(pixel_size) and 0 < pixel_size < float("inf")):
        raise ValueError(f"its pixel_size is {_shortened(pixel_size)}, null or a positive number is needed")
    for flag in record["flags"]:
        if not (isinstance(flag, dict) and all(isinstance(flag.get(key), str) for key in ("kind", "text"))):
            raise ValueError(f"its flags hold {_shortened(flag)}, a kind and a text are needed")


def _check_rows(record: dict[str, Any]) -> None:
    """Raise ValueError if the rows do not fit the columns or the number of nuclei."""
    columns, rows = record["columns"], record["rows"]
    needed = {"id", *MEASUREMENTS, *(["equivalent_diameter_um"] if record["pixel_size"] else [])} if rows else set()
    if not all(isinstance(column, str) for column in columns) or not needed <= set(columns):
        raise ValueError(f"its columns are {_shortened(columns)}, {', '.join(sorted(needed))} are needed")
    if len(rows) != record["nuclei"]:
        raise ValueError(f"it has {len(rows)} rows for {record['nuclei']} nuclei")
    for row in rows:
        if not (isinstance(row, list) and len(row) == len(columns) and all(map(_is_number, row))):
            raise ValueError(f"its rows hold {_shortened(row)}, {len(columns)} numbers are needed")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
